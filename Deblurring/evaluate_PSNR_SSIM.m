function evaluate_PSNR_SSIM(results, targets, csv)
% EVALUATE_PSNR_SSIM  Scores of deblurred images by gopro_rgb_matlab: PSNR over RGB, SSIM of the image as a volume.
%
%   evaluate_PSNR_SSIM(RESULTS, TARGETS) prints the table that `mhnet evaluate RESULTS TARGETS --protocol
%   gopro_rgb_matlab` prints; evaluate_PSNR_SSIM(RESULTS, TARGETS, CSV) also writes every image's scores to a file. Both
%   folders may be cell arrays of folders, one per set. From a shell, in this folder:
%
%       octave-cli --eval "evaluate_PSNR_SSIM('results/GoPro', 'Datasets/GoPro/test/target')"
%
%   MATLAB R2018a or later with the Image Processing Toolbox, whose ssim is used, or GNU Octave, which has none.
    if nargin < 2
        error('mhnet:usage', 'Two folders are needed: evaluate_PSNR_SSIM(RESULTS, TARGETS).');
    elseif nargin < 3
        csv = '';
    end
    addpath(fullfile(fileparts(mfilename('fullpath')), '..', 'matlab'));
    score_folders(results, targets, 'gopro_rgb_matlab', @score, csv);
end

function [psnr, similarity] = score(restored, target)
% PSNR in dB over all elements (inf where nothing differs), and SSIM over the whole volume.
    difference = double(restored) - double(target);
    psnr = 20 * log10(255 / sqrt(mean(difference(:) .^ 2)));
    if exist('OCTAVE_VERSION', 'builtin') || exist('ssim', 'file') ~= 2
        similarity = volume_ssim(double(restored), double(target));
    else
        similarity = ssim(restored, target);
    end
end

function value = volume_ssim(a, b)
% SSIM as MATLAB's ssim gives it for H-by-W-by-3 uint8: Wang et al., IEEE TIP 13(4), 2004, equation 13, for a peak of
% 255, with an 11-by-11-by-11 Gaussian window of sigma 1.5 and replicated borders on all three axes.
    c1 = (0.01 * 255) ^ 2;
    c2 = (0.03 * 255) ^ 2;
    mean_a = window(a);
    mean_b = window(b);
    variances = window(a .^ 2) - mean_a .^ 2 + window(b .^ 2) - mean_b .^ 2;
    covariance = window(a .* b) - mean_a .* mean_b;
    map = (2 * mean_a .* mean_b + c1) .* (2 * covariance + c2) ...
        ./ ((mean_a .^ 2 + mean_b .^ 2 + c1) .* (variances + c2));
    value = mean(map(:));
end

function means = window(volume)
% The Gaussian window along one axis after the other.
    taps = exp(-(-5:5) .^ 2 / (2 * 1.5 ^ 2));
    taps = taps / sum(taps);
    [height, width, depth] = size(volume);
    volume = volume(clamped(height), clamped(width), clamped(depth));
    planes = zeros(height, width, depth + 10);
    for k = 1:depth + 10
        planes(:, :, k) = conv2(taps, taps, volume(:, :, k), 'valid');
    end
    means = zeros(height, width, depth);
    for k = 1:depth
        for offset = 1:11
            means(:, :, k) = means(:, :, k) + taps(offset) * planes(:, :, k + offset - 1);
        end
    end
end

function indices = clamped(length)
% 1 to length with five more on either side, which repeat the ends.
    indices = min(max(-4:length + 5, 1), length);
end

function evaluate_PSNR_SSIM(results, targets, csv)
% EVALUATE_PSNR_SSIM  Scores of derained images by rain_y_matlab: PSNR and SSIM on rounded luma.
%
%   evaluate_PSNR_SSIM(RESULTS, TARGETS) prints the table that `mhnet evaluate RESULTS TARGETS --protocol
%   rain_y_matlab` prints; evaluate_PSNR_SSIM(RESULTS, TARGETS, CSV) also writes every image's scores to a file. Both
%   folders may be cell arrays of folders, one per set. From a shell, in this folder:
%
%       octave-cli --eval "evaluate_PSNR_SSIM('results/Rain100L', 'Datasets/test/Rain100L/target')"
%
%   MATLAB R2018a or later, or GNU Octave; no toolbox is needed.
    if nargin < 2
        error('mhnet:usage', 'Two folders are needed: evaluate_PSNR_SSIM(RESULTS, TARGETS).');
    elseif nargin < 3
        csv = '';
    end
    addpath(fullfile(fileparts(mfilename('fullpath')), '..', 'matlab'));
    score_folders(results, targets, 'rain_y_matlab', @score, csv);
end

function [psnr, ssim] = score(restored, target)
% PSNR in dB over the whole image (inf where nothing differs), and SSIM where its window fits.
    if min(size(restored, 1), size(restored, 2)) < 11
        error('mhnet:small', 'The images have under 11 pixels a side, which the window of rain_y_matlab needs.');
    end
    a = luma(restored);
    b = luma(target);
    psnr = 20 * log10(255 / sqrt(mean((a(:) - b(:)) .^ 2)));
    ssim = ssim_where_the_window_fits(a, b);
end

function y = luma(image)
% The first channel of rgb2ycbcr as it is for uint8, rounded, halves up. In whole numbers, as doubles: rgb2ycbcr itself
% rounds some of the 194 colours with halves down, because its sums are not exact.
    rgb = double(image);
    y = 16 + floor((65481 * rgb(:, :, 1) + 128553 * rgb(:, :, 2) + 24966 * rgb(:, :, 3) + 127500) / 255000);
end

function value = ssim_where_the_window_fits(a, b)
% Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 13(4), 2004, equation 13, for a peak of 255.
    taps = exp(-(-5:5) .^ 2 / (2 * 1.5 ^ 2));
    taps = taps / sum(taps);
    window = @(map) conv2(taps, taps, map, 'valid');
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

function score_folders(results, targets, protocol, score, csv)
% SCORE_FOLDERS  Mean scores of folders of restored images against their clean ones, as a Markdown table.
%
%   score_folders(RESULTS, TARGETS, PROTOCOL, SCORE, CSV) pairs the images of two folders and of their subfolders by
%   name, as mhnet/data/pairs.py does: without extension, case and the prefixes rain, norain, blur and gt, with - and _
%   alike; one clean image may serve several restored ones whose names begin with its own. RESULTS and TARGETS may be
%   cell arrays of as many folders: then the unweighted mean of the sets stands below. [PSNR, SSIM] = SCORE(A, B) takes
%   two uint8 H-by-W-by-3 images of one size; PROTOCOL is its name. CSV, unless empty, is a file for every image's
%   scores, as Python writes it (mhnet evaluate --csv).
%
%   Where an image cannot be scored, the rest is, and an error ends the run.
%
%   MATLAB R2018a or later, or GNU Octave.
    if ~iscell(results), results = {results}; end
    if ~iscell(targets), targets = {targets}; end
    if numel(results) ~= numel(targets)
        error('mhnet:folders', '%d folders of results need as many of clean images, not %d.', ...
            numel(results), numel(targets));
    end
    table = {'set', 'protocol', 'images', 'PSNR (dB)', 'SSIM'};
    lines = {'set,name,protocol,psnr,ssim,failure'};
    notes = {};
    failures = {};
    means = zeros(numel(results), 2);
    for i = 1:numel(results)
        [pairs, unrestored] = pair_folders(results{i}, targets{i});
        set = last_part(results{i});
        [scores, reasons] = score_pairs(pairs, score);
        scored = cellfun(@isempty, reasons);
        same = scored & isinf(scores(:, 1));
        means(i, :) = [mean_of(scores(scored & ~same, 1), any(same)), mean_of(scores(scored, 2), false)];
        total = numel(scored) + unrestored;
        if sum(scored) == total
            count = sprintf('%d', total);
        else
            count = sprintf('%d of %d', sum(scored), total);
        end
        table(end + 1, :) = [{set, protocol, count}, digits_of(means(i, :))];
        if any(same)
            notes{end + 1} = sprintf('%s: left out of the mean PSNR because they equal the clean: %s', ...
                set, shortened({pairs(same).name}));
        end
        if unrestored > 0
            notes{end + 1} = sprintf('warning: %s: nothing was restored for %d clean images', set, unrestored);
        end
        for k = [find(scored)', find(~scored)']  % failures last, as Python writes them
            figures = {'', ''};
            if scored(k)
                figures = {number(scores(k, 1)), number(scores(k, 2))};
            else
                failures{end + 1} = sprintf('not scored: %s: %s', pairs(k).name, reasons{k});
            end
            cells = cellfun(@quoted, [{set, pairs(k).name, protocol}, figures, reasons(k)], 'UniformOutput', false);
            lines{end + 1} = strjoin(cells, ',');
        end
    end
    if numel(results) > 1
        table(end + 1, :) = [{sprintf('mean of %d sets', numel(results)), protocol, ''}, digits_of(mean(means, 1))];
    end
    print_table(table);
    cellfun(@(note) fprintf('%s\n', note), [notes, failures]);
    if ~isempty(csv)
        file = fopen(csv, 'w');
        if file < 0
            error('mhnet:csv', '%s cannot be written; choose another place.', csv);
        end
        fprintf(file, '%s\n', lines{:});
        fclose(file);
    end
    if ~isempty(failures)
        error('mhnet:failures', '%d images could not be scored: they are named above.', numel(failures));
    end
end

function [scores, reasons] = score_pairs(pairs, score)
% PSNR and SSIM of every pair as rows, and why a pair has none ('' where it has).
    scores = nan(numel(pairs), 2);
    reasons = repmat({''}, numel(pairs), 1);
    for k = 1:numel(pairs)
        try
            a = read_rgb(pairs(k).restored);
            b = read_rgb(pairs(k).target);
            if ~isequal(size(a), size(b))
                error('mhnet:size', 'The restored image has %dx%d pixels and the clean one %dx%d; %s', ...
                    size(a, 1), size(a, 2), size(b, 1), size(b, 2), 'only images of one size can be compared.');
            end
            [scores(k, 1), scores(k, 2)] = score(a, b);
        catch problem
            reasons{k} = strrep(strtrim(problem.message), sprintf('\n'), ' ');
        end
    end
end

function image = read_rgb(path)
% An image file as uint8 H-by-W-by-3; 16-bit values v become round(v / 257), alpha is dropped.
    [image, map] = imread(path);
    if ~isempty(map)
        image = uint8(round(255 * ind2rgb(image, map)));
    elseif isa(image, 'uint16')
        image = uint8(round(double(image) / 257));
    elseif islogical(image)
        image = uint8(255 * image);
    end
    if size(image, 3) < 3
        image = repmat(image(:, :, 1), [1, 1, 3]);
    end
    image = image(:, :, 1:3);
end

function [pairs, unrestored] = pair_folders(results, targets)
% Pairs (restored, target, name) in natural order, and how many clean images have no restored one.
    restored = list_images(results, '');
    clean = list_images(targets, '');
    norain = strncmp({clean.key}, '/norain_', 8);
    if any(norain), clean = clean(norain); end  % PReNet's layout: clean images lie loose beside others
    rain = strncmp({restored.key}, '/rain_', 6);
    if strcmp(results, targets) && any(rain), restored = restored(rain); end
    if isempty(restored), error('mhnet:empty', 'There are no images in %s; put them there.', results); end
    if isempty(clean), error('mhnet:empty', 'There are no images in %s; put them there.', targets); end
    keys = {clean.key};
    stripped = cellfun(@strip, keys, 'UniformOutput', false);
    pairs = struct('restored', {}, 'target', {}, 'name', {});
    used = false(1, numel(clean));
    claimed = false(1, numel(clean));
    for one = restored
        if sum(strcmp({restored.key}, one.key)) > 1
            error('mhnet:name', '%s has the same name as another image there; rename or remove one.', one.path);
        end
        found = find(strcmp(keys, one.key));
        own = strip(one.key);
        if isempty(found), found = find(strcmp(stripped, own)); end
        if ~isempty(found)
            if claimed(found(1))
                error('mhnet:name', '%s has the same name as another image there; rename or remove one.', one.path);
            end
            claimed(found(1)) = true;
        end
        ends = find(own == '_');
        while isempty(found) && ~isempty(ends)  % the longest name that begins its own
            found = find(strcmp(stripped, own(1:ends(end) - 1)));
            ends(end) = [];
        end
        if isempty(found)
            error('mhnet:name', 'No image in %s has the name of %s; add it there, or take this away.', ...
                targets, one.path);
        elseif numel(found) > 1
            error('mhnet:name', '%s and %s have the same name; rename or remove one.', ...
                clean(found(1)).path, clean(found(2)).path);
        end
        used(found) = true;
        pairs(end + 1) = struct('restored', one.path, 'target', clean(found).path, 'name', one.name);
    end
    unrestored = sum(~used);
end

function found = list_images(folder, below)
% Images below a folder in natural order: path, key to compare ('subfolder/name'), name to show.
    if ~isfolder(folder), error('mhnet:folder', 'There is no folder %s; check the path.', folder); end
    found = struct('path', {}, 'key', {}, 'name', {});
    for entry = dir(folder)'
        if entry.name(1) == '.', continue; end
        place = fullfile(folder, entry.name);
        [~, stem, extension] = fileparts(entry.name);
        key = normal(stem);
        if entry.isdir
            found = [found, list_images(place, [below, entry.name, '/'])];
        elseif any(strcmpi(extension, {'.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp'})) ...
                && ~strncmp(key, 'rainstreak_', 11) && ~strncmp(key, 'rainregion_', 11)
            subfolder = normal(below);
            found(end + 1) = struct('path', place, 'key', [subfolder(1:end - 1), '/', key], 'name', [below, stem]);
        end
    end
    [~, order] = sort(cellfun(@natural, {found.name}, 'UniformOutput', false));
    found = found(order);
end

function text = natural(text)
% The text with its numbers padded, so that 2 sorts before 10.
    [words, numbers] = regexp(lower(text), '\d+', 'split', 'match');
    numbers = cellfun(@(digits) [repmat('0', 1, 20 - numel(digits)), digits], numbers, 'UniformOutput', false);
    text = strjoin(words, numbers);
end

function name = normal(name)
    name = strrep(lower(name), '-', '_');
end

function key = strip(key)
% A key without the prefix of its side.
    slash = find(key == '/', 1, 'last');
    key = [key(1:slash), regexprep(key(slash + 1:end), '^(norain|rain|blur|gt)(_(?=.)|(?=\d))', '')];
end

function name = last_part(folder)
% A folder's own name.
    parts = regexp(folder, '[/\\]+', 'split');
    parts = parts(~cellfun(@isempty, parts) & ~strcmp(parts, '.'));
    if isempty(parts), parts = {pwd()}; end
    [~, stem, extension] = fileparts(parts{end});
    name = [stem, extension];
end

function value = mean_of(values, infinite)
% The mean; of nothing, inf where what was left out is infinite and else nan.
    if isempty(values) && infinite
        value = inf;
    else
        value = sum(values) / numel(values);
    end
end

function cells = digits_of(means)
    cells = {lower(sprintf('%.2f', means(1))), lower(sprintf('%.4f', means(2)))};
end

function text = number(value)
    text = lower(sprintf('%.12g', value));
end

function text = quoted(text)
% A cell of a CSV file.
    if any(ismember(text, sprintf(',"\r\n')))
        text = ['"', strrep(text, '"', '""'), '"'];
    end
end

function text = shortened(names)
    text = strjoin(names(1:min(3, end)), ', ');
    if numel(names) > 3
        text = sprintf('%s and %d more', text, numel(names) - 3);
    end
end

function print_table(table)
% A Markdown table: two columns of words, then figures.
    widths = max(cellfun(@numel, table), [], 1);
    for row = 1:size(table, 1)
        cells = cell(1, numel(widths));
        for column = 1:numel(widths)
            side = '';
            if column <= 2, side = '-'; end
            cells{column} = sprintf(sprintf('%%%s%ds', side, widths(column)), table{row, column});
        end
        fprintf('| %s |\n', strjoin(cells, ' | '));
        if row == 1
            rules = arrayfun(@(width) repmat('-', 1, width + 2), widths, 'UniformOutput', false);
            rules(3:end) = cellfun(@(rule) [rule(1:end - 1), ':'], rules(3:end), 'UniformOutput', false);
            fprintf('|%s|\n', strjoin(rules, '|'));
        end
    end
end

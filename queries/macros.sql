-- Masks and maps in SQL, for any DuckDB 2: `.read queries/macros.sql`. jobs/query.py knows them already.
--
--   patch_grid(patch_scores, map_size)  the anomaly map's g rows of g scores: FLOAT[][]
--   patch_values(patch_scores)          the same in one list, row by row: FLOAT[]
--   mask_runs(pred_mask.counts)         runs of a COCO mask, column by column, not in it and in it by turns: BIGINT[]
--   mask_area_of(pred_mask.counts)      the pixels that are in it: BIGINT
--   in_mask(pred_mask, x, y)            whether pixel (x, y), from 0 and the upper left on, is in it: BOOLEAN

CREATE OR REPLACE TEMP MACRO float16(code) AS (
    CASE WHEN code >= 32768 THEN -1 ELSE 1 END
    * CASE (code >> 10) & 31
        WHEN 0 THEN (code & 1023) * 2.0 ** -24
        WHEN 31 THEN if(code & 1023 = 0, 'inf'::DOUBLE, 'nan'::DOUBLE)
        ELSE (1024 + (code & 1023)) * 2.0 ** (((code >> 10) & 31) - 25)
    END
)::FLOAT;

-- Of bytes in hexadecimal, two a number, the lower one first.
CREATE OR REPLACE TEMP MACRO float16_list(digits) AS list_transform(
    regexp_extract_all(digits, '....'), lambda four: float16(('0x' || four[3:4] || four[1:2])::INTEGER)
);

CREATE OR REPLACE TEMP MACRO patch_values(patch_scores) AS float16_list(hex(patch_scores));

CREATE OR REPLACE TEMP MACRO patch_grid(patch_scores, map_size) AS list_transform(
    range(map_size[1]::BIGINT),
    lambda nth: float16_list(substr(hex(patch_scores), nth * map_size[2] * 4 + 1, map_size[2] * 4))
);

-- A number is characters of five bits each, the lowest first: '0' to 'O' end it, 'P' to 'o' go on; the end's fifth bit
-- is its sign.
CREATE OR REPLACE TEMP MACRO mask_number(letters) AS list_sum(list_transform(
    range(length(letters)),
    lambda place: (((ord(letters[place + 1]) - 48) & 31)::BIGINT << (5 * place))
))::BIGINT - if((ord(letters[-1]) - 48) & 16 = 0, 0, 1::BIGINT << (5 * length(letters)));

CREATE OR REPLACE TEMP MACRO mask_numbers(counts) AS list_transform(
    regexp_extract_all(counts, '[P-o]*[0-O]'), lambda letters: mask_number(letters)
);

-- From the fourth on a number is the difference from the run before the last.
CREATE OR REPLACE TEMP MACRO mask_runs(counts) AS (
    SELECT list(run ORDER BY nth) FROM (
        SELECT nth, (sum(number) OVER (PARTITION BY if(nth = 1, 2, nth % 2) ORDER BY nth))::BIGINT AS run
        FROM (SELECT unnest(mask_numbers(counts)) AS number, generate_subscripts(mask_numbers(counts), 1) AS nth)
    )
);

-- The k-th of m runs that are in the mask is the sum of the first k differences: each counts for all that follow it.
CREATE OR REPLACE TEMP MACRO mask_area_of(counts) AS (
    SELECT if(inside IS NULL, NULL, coalesce(list_sum(list_transform(
        inside, lambda number, nth: number * (length(inside) - nth + 1)
    )), 0))::BIGINT
    FROM (SELECT list_filter(mask_numbers(counts), lambda number, nth: nth % 2 = 0) AS inside)
);

CREATE OR REPLACE TEMP MACRO in_mask(pred_mask, x, y) AS (
    SELECT count(*) % 2 = 1 FROM (
        SELECT sum(run) OVER (ORDER BY nth) AS until
        FROM (
            SELECT unnest(mask_runs(pred_mask['counts'])) AS run,
                generate_subscripts(mask_runs(pred_mask['counts']), 1) AS nth
        )
    ) WHERE until <= x * pred_mask['size'][1] + y
);

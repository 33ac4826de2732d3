-- Today's stages with the spell they belong to: the same stage as yesterday carries the spell on, another begins one.
-- The path is what a customer's earlier spells are counted in; no name of a stage contains a slash.
SELECT today.customer_id AS customer_id,
       today.day AS day,
       today.stage AS stage,
       today.sub_stage AS sub_stage,
       CASE WHEN yesterday.stage = today.stage THEN yesterday.stage_since ELSE today.day END AS stage_since,
       CASE WHEN yesterday.stage = today.stage THEN yesterday.previous_stage ELSE yesterday.stage END AS previous_stage,
       CAST(CASE WHEN yesterday.stage IS NULL THEN 0
                 WHEN yesterday.stage = today.stage THEN yesterday.earlier_spells
                 ELSE (LENGTH(CONCAT('/', REPLACE(yesterday.path, '/', '//'), '/'))
                       - LENGTH(REPLACE(CONCAT('/', REPLACE(yesterday.path, '/', '//'), '/'),
                                        CONCAT('/', today.stage, '/'), '')))
                      / (LENGTH(today.stage) + 2) END AS BIGINT) AS earlier_spells,
       CASE WHEN yesterday.stage IS NULL THEN today.stage
            WHEN yesterday.stage = today.stage THEN yesterday.path
            ELSE CONCAT(yesterday.path, '/', today.stage) END AS path
FROM today LEFT JOIN yesterday ON yesterday.customer_id = today.customer_id
ORDER BY today.customer_id

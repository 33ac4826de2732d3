-- Today's stages with the spell they belong to: the same stage as yesterday carries the spell on, another begins one.
SELECT today.customer_id AS customer_id,
       today.day AS day,
       today.stage AS stage,
       today.sub_stage AS sub_stage,
       CASE WHEN yesterday.stage = today.stage THEN yesterday.stage_since ELSE today.day END AS stage_since,
       CASE WHEN yesterday.stage = today.stage THEN yesterday.previous_stage ELSE yesterday.stage END AS previous_stage
FROM today LEFT JOIN yesterday ON yesterday.customer_id = today.customer_id
ORDER BY today.customer_id

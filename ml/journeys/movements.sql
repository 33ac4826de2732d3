-- Where each customer of today was yesterday, and what moved it. The way from yesterday's published micro-segment to
-- today's has two legs: published → restated is what new models did, restated → today is what the customer did.
WITH steps AS (
    SELECT today.customer_id AS customer_id, today.day AS day,
           yesterday.customer_id IS NULL AS is_entry,
           yesterday.stage AS from_stage,
           restated.stage AS restated_stage,
           today.stage AS to_stage,
           yesterday.micro_segment_id AS from_micro_segment_id,
           CASE WHEN yesterday.customer_id IS NOT NULL THEN restated.micro_segment_id END AS restated_micro_segment_id,
           today.micro_segment_id AS to_micro_segment_id,
           yesterday.stage <> restated.stage OR yesterday.micro_segment_id <> restated.micro_segment_id AS by_model,
           restated.stage <> today.stage OR restated.micro_segment_id <> today.micro_segment_id AS by_behaviour,
           COALESCE(purchases.recency_days, 0) > 0 AS is_silent
    FROM today
    LEFT JOIN yesterday ON yesterday.customer_id = today.customer_id
    LEFT JOIN restated ON restated.customer_id = today.customer_id
    LEFT JOIN purchases ON purchases.customer_id = today.customer_id
)
SELECT customer_id, from_stage, to_stage, from_micro_segment_id, restated_micro_segment_id, to_micro_segment_id,
       CASE WHEN is_entry THEN 'entry'
            WHEN from_stage = to_stage AND from_micro_segment_id = to_micro_segment_id THEN NULL
            WHEN by_model AND by_behaviour THEN 'both'
            WHEN by_model THEN 'model'
            WHEN is_silent AND restated_stage <> to_stage
                 AND restated_stage IN (SELECT stage FROM rule_stages)
                 AND to_stage IN (SELECT stage FROM rule_exits) THEN 'rule'
            ELSE 'behaviour' END AS cause,
       day
FROM steps
ORDER BY day, customer_id

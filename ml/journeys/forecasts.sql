-- Each customer takes the row of its micro-segment.
SELECT micro_segments.customer_id AS customer_id,
       chances.horizon_days AS horizon_days,
       chances.stage AS stage,
       chances.probability AS probability,
       micro_segments.day AS day
FROM micro_segments JOIN chances ON chances.micro_segment = micro_segments.micro_segment
ORDER BY day, customer_id, horizon_days, stage

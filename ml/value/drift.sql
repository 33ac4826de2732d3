-- Spend expected a horizon ago and realised since, in ten groups by expectation.
WITH compared AS (
    SELECT predicted.customer_id AS customer_id, predicted.expected_spend AS expected,
           CASE $horizon WHEN 28 THEN features.spend_28d
                         WHEN 56 THEN features.spend_28d + features.spend_prev_28d
                         WHEN 90 THEN features.spend_90d END AS realised
    FROM predicted JOIN features ON features.customer_id = predicted.customer_id
    WHERE predicted.horizon_days = $horizon
),
grouped AS (
    SELECT expected, realised, NTILE(10) OVER (ORDER BY expected, customer_id) AS decile
    FROM compared WHERE realised IS NOT NULL
)
SELECT decile AS decile, COUNT(*) AS customers, SUM(expected) AS expected, SUM(realised) AS realised,
       SUM((realised - expected) * (realised - expected)) AS squares
FROM grouped GROUP BY decile ORDER BY decile

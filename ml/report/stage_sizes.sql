-- Customers per stage and sub-stage.
SELECT stage, sub_stage, COUNT(*) AS customers
FROM lifecycle_stages WHERE day = $day
GROUP BY stage, sub_stage ORDER BY stage, customers DESC, sub_stage

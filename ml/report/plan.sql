-- The plan of each micro-segment, with reasons. Amounts are summed as decimals, so that the order of rows does not matter.
SELECT micro_segment_id, action, is_holdout, reason_code, reason_parameters, reason, COUNT(*) AS customers,
       CAST(SUM(CAST(expected_incremental_value AS DECIMAL(18, 4))) AS DOUBLE) AS value,
       CAST(SUM(CAST(cost AS DECIMAL(18, 4))) AS DOUBLE) AS cost
FROM action_plan WHERE day = $day
GROUP BY micro_segment_id, action, is_holdout, reason_code, reason_parameters, reason
ORDER BY micro_segment_id, action, is_holdout, reason_code, reason_parameters, reason

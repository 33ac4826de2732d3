-- The biggest flows between stages and between micro-segments, entries among them.
WITH moves AS (
    SELECT day, 'stage' AS level, from_stage AS from_group, to_stage AS to_group, cause
    FROM movements WHERE cause IS NOT NULL AND from_stage IS DISTINCT FROM to_stage
    UNION ALL
    SELECT day, 'micro_segment' AS level,
           COALESCE(from_names.name, from_micro_segment_id) AS from_group,
           COALESCE(to_names.name, to_micro_segment_id) AS to_group, cause
    FROM movements
    LEFT JOIN names AS from_names ON from_names.micro_segment_id = movements.from_micro_segment_id
    LEFT JOIN names AS to_names ON to_names.micro_segment_id = movements.to_micro_segment_id
    WHERE cause IS NOT NULL AND from_micro_segment_id IS DISTINCT FROM to_micro_segment_id
),
flows AS (
    SELECT day, level, from_group, to_group, cause, COUNT(*) AS customers
    FROM moves
    GROUP BY day, level, from_group, to_group, cause
),
ranked AS (
    SELECT day, level, from_group, to_group, cause, customers,
           ROW_NUMBER() OVER (PARTITION BY day, level
                              ORDER BY customers DESC, from_group NULLS FIRST, to_group, cause) AS flow_rank
    FROM flows
)
SELECT day, level, from_group, to_group, cause, customers
FROM ranked
WHERE flow_rank <= $top
ORDER BY day, level DESC, flow_rank

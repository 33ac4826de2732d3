-- Where each customer was before the first day of the window and is at its end, with the cause. On the first day of the
-- record every customer is an entry, which carries no information: there the comparison starts at that day's end.
WITH counted AS (
    SELECT day, SUM(CASE WHEN from_stage IS NULL THEN 0 ELSE 1 END) AS known_before
    FROM moves WHERE day > $after AND day <= $day GROUP BY day
),
steps AS (
    SELECT moves.customer_id AS customer_id, moves.day AS day,
           CASE WHEN counted.known_before = 0 THEN moves.to_stage ELSE moves.from_stage END AS from_stage,
           moves.to_stage AS to_stage,
           CASE WHEN counted.known_before = 0 THEN moves.to_micro_segment_id
                ELSE moves.from_micro_segment_id END AS from_id,
           moves.to_micro_segment_id AS to_id,
           moves.cause AS cause
    FROM moves JOIN counted ON counted.day = moves.day
),
spans AS (SELECT customer_id, MIN(day) AS first_day, MAX(day) AS last_day FROM steps GROUP BY customer_id),
net AS (
    SELECT steps.customer_id AS customer_id,
           MAX(CASE WHEN steps.day = spans.first_day THEN steps.from_stage END) AS from_stage,
           MAX(CASE WHEN steps.day = spans.last_day THEN steps.to_stage END) AS to_stage,
           MAX(CASE WHEN steps.day = spans.first_day THEN steps.from_id END) AS from_id,
           MAX(CASE WHEN steps.day = spans.last_day THEN steps.to_id END) AS to_id,
           MAX(CASE WHEN steps.from_stage <> steps.to_stage AND steps.cause IN ('model', 'both')
                    THEN 1 ELSE 0 END) AS stage_model,
           MAX(CASE WHEN steps.from_stage <> steps.to_stage AND steps.cause IN ('behaviour', 'both')
                    THEN 1 ELSE 0 END) AS stage_behaviour,
           MAX(CASE WHEN steps.from_id <> steps.to_id AND steps.cause IN ('model', 'both')
                    THEN 1 ELSE 0 END) AS by_model,
           MAX(CASE WHEN steps.from_id <> steps.to_id AND steps.cause IN ('behaviour', 'both')
                    THEN 1 ELSE 0 END) AS by_behaviour,
           MAX(CASE WHEN steps.from_id <> steps.to_id AND steps.cause = 'rule' THEN 1 ELSE 0 END) AS by_rule,
           MAX(CASE WHEN steps.from_id <> steps.to_id THEN 1 ELSE 0 END) AS has_moved
    FROM steps JOIN spans ON spans.customer_id = steps.customer_id
    GROUP BY steps.customer_id
)
SELECT from_stage, to_stage, from_id, to_id,
       CASE WHEN from_stage IS NULL THEN 'entry'
            WHEN from_stage = to_stage THEN ''
            WHEN stage_model = 1 AND stage_behaviour = 1 THEN 'both'
            WHEN stage_model = 1 THEN 'model'
            WHEN stage_behaviour = 1 THEN 'behaviour' ELSE 'rule' END AS stage_cause,
       CASE WHEN from_id IS NULL THEN 'entry'
            WHEN from_id = to_id THEN ''
            WHEN by_model = 1 AND (by_behaviour = 1 OR by_rule = 1) THEN 'both'
            WHEN by_model = 1 THEN 'model'
            WHEN by_behaviour = 1 THEN 'behaviour' ELSE 'rule' END AS cause,
       has_moved, COUNT(*) AS customers
FROM net
GROUP BY from_stage, to_stage, from_id, to_id, stage_cause, cause, has_moved
ORDER BY customers DESC, from_stage, to_stage, from_id, to_id, stage_cause, cause, has_moved

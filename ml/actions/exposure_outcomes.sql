-- Matured exposures and their controls, one row per customer, campaign and day. Nothing dated after $as_of is looked at.
-- Randomised campaigns bring their own controls. For the others, controls are customers who were known the day before
-- and whom no action reached within the window on either side; so such a campaign waits until both sides are over.
WITH known AS (
    SELECT customer_id, MIN(day) AS known_since FROM customer_days WHERE day <= $as_of GROUP BY customer_id
),
delivered AS (
    SELECT customer_id, day AS exposed_on, exposed_at, propensity,
           COALESCE(campaign_id, CAST(day AS VARCHAR)) AS campaign_id,
           CASE WHEN COALESCE(is_holdout, FALSE) THEN 'control' ELSE action END AS action,
           CASE WHEN COALESCE(randomised, FALSE) THEN 'randomised' ELSE 'observational' END AS design
    FROM exposures WHERE day <= $as_of
),
touches AS (
    SELECT DISTINCT customer_id, exposed_on FROM delivered WHERE action <> 'control'
),
delivered_ranks AS (
    SELECT customer_id, exposed_on, campaign_id, action, design, propensity,
           ROW_NUMBER() OVER (
               PARTITION BY customer_id, exposed_on, campaign_id
               ORDER BY CASE WHEN action = 'control' THEN 1 ELSE 0 END, exposed_at, action, propensity
           ) AS place
    FROM delivered
    WHERE (design = 'randomised' AND DATE_DIFF('day', exposed_on, $as_of) >= $window - 1)
       OR (action <> 'control' AND DATE_DIFF('day', exposed_on, $as_of) >= $window)
),
once AS (
    SELECT customer_id, exposed_on, campaign_id, action, design, propensity FROM delivered_ranks WHERE place = 1
),
waves AS (
    SELECT DISTINCT campaign_id, exposed_on FROM once WHERE design = 'observational'
),
-- A bounded, random set of customers is considered as controls: the same ones for all campaigns.
pool_ranks AS (
    SELECT customer_id, known_since,
           ROW_NUMBER() OVER (ORDER BY MD5(CONCAT($seed, '|pool|', customer_id)), customer_id) AS place
    FROM known
),
control_ranks AS (
    SELECT pool_ranks.customer_id AS customer_id, waves.exposed_on AS exposed_on, waves.campaign_id AS campaign_id,
           ROW_NUMBER() OVER (
               PARTITION BY pool_ranks.customer_id, waves.campaign_id
               ORDER BY MD5(CONCAT($seed, '|', pool_ranks.customer_id, '|', waves.campaign_id, '|',
                                   CAST(waves.exposed_on AS VARCHAR)))
           ) AS place
    FROM waves JOIN pool_ranks ON pool_ranks.known_since < waves.exposed_on
    WHERE pool_ranks.place <= $max_rows
      AND NOT EXISTS (
          SELECT 1 FROM touches
          WHERE touches.customer_id = pool_ranks.customer_id
            AND ABS(DATE_DIFF('day', touches.exposed_on, waves.exposed_on)) <= $window
      )
),
arms AS (
    SELECT customer_id, exposed_on, campaign_id, action, design, propensity FROM once
    UNION ALL
    SELECT customer_id, exposed_on, campaign_id, 'control', 'observational', CAST(NULL AS DOUBLE)
    FROM control_ranks WHERE place = 1
),
eligible AS (
    SELECT arms.customer_id AS customer_id, arms.exposed_on AS exposed_on, arms.campaign_id AS campaign_id,
           arms.action AS action, arms.design AS design, arms.propensity AS propensity,
           -- The day whose snapshot the placebo uses, if history reaches that far back and the customer was known.
           CASE WHEN DATE_DIFF('day', $start, arms.exposed_on) > $window
                 AND DATE_DIFF('day', known.known_since, arms.exposed_on) > $window
                THEN TRUE ELSE FALSE END AS has_placebo,
           ROW_NUMBER() OVER (
               PARTITION BY arms.action, arms.design
               ORDER BY MD5(CONCAT($seed, '|', arms.customer_id, '|', arms.campaign_id)),
                        arms.customer_id, arms.campaign_id, arms.exposed_on
           ) AS place
    FROM arms JOIN known ON known.customer_id = arms.customer_id AND known.known_since < arms.exposed_on
    WHERE arms.exposed_on > $start
)
SELECT customer_id, exposed_on, campaign_id, action, design, propensity, has_placebo
FROM eligible WHERE place <= $max_rows
ORDER BY exposed_on, campaign_id, customer_id

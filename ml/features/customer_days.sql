-- One row per customer and day on which anything happened. Money is summed as decimals, so that the sums are exact and
-- do not depend on the order in which an engine adds them.
WITH order_totals AS (
    SELECT customer_id, day, COALESCE(order_id, CAST(occurred_at AS VARCHAR)) AS order_key,
           SUM(CAST(amount AS DECIMAL(18, 4))) AS amount
    FROM transactions
    GROUP BY customer_id, day, COALESCE(order_id, CAST(occurred_at AS VARCHAR))
),
order_days AS (
    SELECT customer_id, day, SUM(CASE WHEN amount > 0 THEN 1 ELSE 0 END) AS orders
    FROM order_totals
    GROUP BY customer_id, day
),
line_days AS (
    SELECT customer_id, day,
           COUNT(*) AS lines,
           SUM(CAST(quantity AS DECIMAL(18, 4))) AS items,
           SUM(CAST(amount AS DECIMAL(18, 4))) AS amount,
           SUM(CASE WHEN amount < 0 THEN -CAST(amount AS DECIMAL(18, 4)) ELSE 0 END) AS refunds,
           SUM(CAST(discount AS DECIMAL(18, 4))) AS discount,
           SUM(CAST(margin AS DECIMAL(18, 4))) AS margin
    FROM transactions
    GROUP BY customer_id, day
),
event_steps AS (
    -- An event begins a visit unless another one came less than 30 minutes before it. What came on the day before is not
    -- known here: see visits.sql.
    SELECT customer_id, day, event_type, occurred_at,
           CASE WHEN occurred_at < LAG(occurred_at) OVER (PARTITION BY customer_id, day ORDER BY occurred_at)
                                   + INTERVAL 30 MINUTE THEN 0 ELSE 1 END AS begins_visit
    FROM events
),
event_days AS (
    SELECT events.customer_id AS customer_id, events.day AS day,
           COUNT(*) AS events,
           SUM(event_roles.is_page_view) AS page_views,
           SUM(event_roles.is_cart) AS carts,
           SUM(event_roles.is_redemption) AS redemptions,
           SUM(event_roles.is_goal) AS goals,
           SUM(events.begins_visit) AS visits,
           MIN(events.occurred_at) AS first_event_at,
           MAX(events.occurred_at) AS last_event_at
    FROM event_steps AS events LEFT JOIN event_roles ON event_roles.event_type = events.event_type
    GROUP BY events.customer_id, events.day
),
exposure_days AS (
    SELECT exposures.customer_id AS customer_id, exposures.day AS day,
           SUM(CASE WHEN COALESCE(arms.arm, '') <> 'control' AND NOT COALESCE(exposures.is_holdout, FALSE)
               THEN 1 ELSE 0 END) AS exposures
    FROM exposures LEFT JOIN arms ON arms.action = exposures.action
    GROUP BY exposures.customer_id, exposures.day
),
balance_ranks AS (
    SELECT customer_id, day, balance,
           ROW_NUMBER() OVER (PARTITION BY customer_id, day ORDER BY as_of DESC, balance DESC) AS newest
    FROM balances
),
balance_days AS (
    SELECT customer_id, day, balance FROM balance_ranks WHERE newest = 1
),
registered_days AS (
    SELECT customer_id, day FROM customers GROUP BY customer_id, day
),
seen AS (
    SELECT customer_id, day FROM line_days
    UNION SELECT customer_id, day FROM event_days
    UNION SELECT customer_id, day FROM exposure_days
    UNION SELECT customer_id, day FROM balance_days
    UNION SELECT customer_id, day FROM registered_days
)
SELECT seen.customer_id AS customer_id,
       seen.day AS day,
       CAST(COALESCE(order_days.orders, 0) AS BIGINT) AS orders,
       CAST(COALESCE(line_days.lines, 0) AS BIGINT) AS lines,
       CAST(COALESCE(line_days.items, 0) AS DOUBLE) AS items,
       CAST(COALESCE(line_days.amount, 0) AS DOUBLE) AS amount,
       CAST(COALESCE(line_days.refunds, 0) AS DOUBLE) AS refunds,
       CAST(COALESCE(line_days.discount, 0) AS DOUBLE) AS discount,
       CAST(line_days.margin AS DOUBLE) AS margin,
       CAST(COALESCE(event_days.events, 0) AS BIGINT) AS events,
       CAST(COALESCE(event_days.page_views, 0) AS BIGINT) AS page_views,
       CAST(COALESCE(event_days.carts, 0) AS BIGINT) AS carts,
       CAST(COALESCE(event_days.redemptions, 0) AS BIGINT) AS redemptions,
       CAST(COALESCE(event_days.goals, 0) AS BIGINT) AS goals,
       CAST(COALESCE(event_days.visits, 0) AS BIGINT) AS visits,
       event_days.first_event_at AS first_event_at,
       event_days.last_event_at AS last_event_at,
       CAST(COALESCE(exposure_days.exposures, 0) AS BIGINT) AS exposures,
       CAST(balance_days.balance AS DOUBLE) AS balance,
       registered_days.customer_id IS NOT NULL AS is_registered
FROM seen
LEFT JOIN order_days ON order_days.customer_id = seen.customer_id AND order_days.day = seen.day
LEFT JOIN line_days ON line_days.customer_id = seen.customer_id AND line_days.day = seen.day
LEFT JOIN event_days ON event_days.customer_id = seen.customer_id AND event_days.day = seen.day
LEFT JOIN exposure_days ON exposure_days.customer_id = seen.customer_id AND exposure_days.day = seen.day
LEFT JOIN balance_days ON balance_days.customer_id = seen.customer_id AND balance_days.day = seen.day
LEFT JOIN registered_days ON registered_days.customer_id = seen.customer_id AND registered_days.day = seen.day
ORDER BY seen.day, seen.customer_id

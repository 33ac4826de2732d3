-- The features of each pair of customer and day, as of the end of that day. Every join looks back from the pair's day,
-- so nothing that happened later can enter.
WITH counted AS (
    -- An order that is delivered in parts counts once, on its first day.
    SELECT customer_days.customer_id AS customer_id, customer_days.day AS day,
           customer_days.orders - COALESCE(repeated_orders.repeated, 0) AS orders,
           customer_days.lines AS lines, customer_days.items AS items, customer_days.amount AS amount,
           customer_days.refunds AS refunds,
           customer_days.discount AS discount, customer_days.events AS events, customer_days.page_views AS page_views,
           customer_days.carts AS carts, customer_days.redemptions AS redemptions,
           customer_days.exposures AS exposures, customer_days.balance AS balance
    FROM customer_days LEFT JOIN repeated_orders
      ON repeated_orders.customer_id = customer_days.customer_id AND repeated_orders.day = customer_days.day
),
facts AS (
    -- A purchase's gap is the silence it ended: days since the customer's purchase day before it.
    SELECT customer_id, day, orders, lines, items, amount, refunds, discount, events, page_views, carts, redemptions,
           exposures, balance,
           CASE WHEN orders > 0 THEN DATE_DIFF('day', LAG(day) OVER (
               PARTITION BY customer_id, orders > 0 ORDER BY day), day) END AS gap
    FROM counted
),
history AS (
    SELECT pairs.customer_id AS customer_id, pairs.day AS day, facts.day AS fact_day,
           DATE_DIFF('day', facts.day, pairs.day) AS age,
           facts.orders, facts.lines, facts.items, facts.gap, facts.events, facts.page_views, facts.carts,
           facts.redemptions, facts.exposures, facts.balance,
           CAST(facts.amount AS DECIMAL(18, 4)) AS amount,
           CAST(facts.refunds AS DECIMAL(18, 4)) AS refunds,
           CAST(facts.discount AS DECIMAL(18, 4)) AS discount
    FROM pairs JOIN facts ON facts.customer_id = pairs.customer_id AND facts.day <= pairs.day
),
sums AS (
    SELECT customer_id, day,
           MAX(age) AS known_days,
           MAX(CASE WHEN orders > 0 THEN age END) AS tenure_days,
           MIN(CASE WHEN orders > 0 THEN age END) AS recency_days,
           SUM(CASE WHEN orders > 0 THEN 1 ELSE 0 END) AS purchase_days,
           SUM(orders) AS orders,
           SUM(lines) AS lines,
           SUM(amount) AS spend,
           SUM(refunds) AS refunds,
           SUM(CASE WHEN age < 28 THEN orders ELSE 0 END) AS orders_28d,
           SUM(CASE WHEN age < 90 THEN orders ELSE 0 END) AS orders_90d,
           SUM(CASE WHEN age >= 28 AND age < 56 THEN orders ELSE 0 END) AS orders_prev_28d,
           SUM(CASE WHEN age < 28 THEN amount ELSE 0 END) AS spend_28d,
           SUM(CASE WHEN age < 90 THEN amount ELSE 0 END) AS spend_90d,
           SUM(CASE WHEN age >= 28 AND age < 56 THEN amount ELSE 0 END) AS spend_prev_28d,
           SUM(CASE WHEN age < 28 AND orders > 0 THEN 1 ELSE 0 END) AS purchase_days_28d,
           SUM(CASE WHEN age < 90 AND orders > 0 THEN 1 ELSE 0 END) AS purchase_days_90d,
           MAX(CASE WHEN age < 30 THEN gap END) AS comeback_gap_days,
           SUM(CASE WHEN age < 90 THEN CAST(items AS DECIMAL(18, 4)) ELSE 0 END) AS items_90d,
           SUM(CASE WHEN age < 90 THEN refunds ELSE 0 END) AS refunds_90d,
           SUM(CASE WHEN age < 90 THEN discount ELSE 0 END) AS discount_90d,
           SUM(CASE WHEN age < 28 THEN events ELSE 0 END) AS events_28d,
           SUM(CASE WHEN age < 90 THEN events ELSE 0 END) AS events_90d,
           MIN(CASE WHEN events > 0 THEN age END) AS days_since_event,
           SUM(CASE WHEN age < 28 THEN page_views ELSE 0 END) AS page_views_28d,
           MIN(CASE WHEN carts > 0 THEN age END) AS days_since_cart,
           SUM(CASE WHEN age < 90 THEN redemptions ELSE 0 END) AS redemptions_90d,
           SUM(CASE WHEN age < 28 THEN exposures ELSE 0 END) AS exposures_28d,
           SUM(CASE WHEN age < 90 THEN exposures ELSE 0 END) AS exposures_90d,
           MIN(CASE WHEN exposures > 0 THEN age END) AS days_since_exposure,
           MIN(CASE WHEN balance IS NOT NULL THEN age END) AS balance_age
    FROM history
    GROUP BY customer_id, day
),
moments AS (
    -- Facts of one particular day of the history: the first purchase day, the day of the newest balance.
    SELECT sums.customer_id AS customer_id, sums.day AS day,
           SUM(CASE WHEN history.age = sums.tenure_days THEN history.amount END) AS first_day_spend,
           MAX(CASE WHEN history.age = sums.balance_age THEN history.balance END) AS balance
    FROM sums JOIN history ON history.customer_id = sums.customer_id AND history.day = sums.day
        AND (history.age = sums.tenure_days OR history.age = sums.balance_age)
    GROUP BY sums.customer_id, sums.day
),
category_sums AS (
    SELECT pairs.customer_id AS customer_id, pairs.day AS day, category_days.category AS category,
           SUM(CAST(category_days.amount AS DECIMAL(18, 4))) AS amount
    FROM pairs JOIN category_days ON category_days.customer_id = pairs.customer_id
        AND category_days.day <= pairs.day AND DATE_DIFF('day', category_days.day, pairs.day) < 90
    GROUP BY pairs.customer_id, pairs.day, category_days.category
),
category_ranks AS (
    SELECT customer_id, day, category, amount,
           ROW_NUMBER() OVER (PARTITION BY customer_id, day ORDER BY amount DESC, category) AS category_rank,
           COUNT(*) OVER (PARTITION BY customer_id, day) AS categories,
           SUM(CASE WHEN amount > 0 THEN amount ELSE 0 END) OVER (PARTITION BY customer_id, day) AS total
    FROM category_sums
),
top_categories AS (
    SELECT customer_id, day, category, categories,
           CASE WHEN total > 0 THEN CAST(amount AS DOUBLE) / CAST(total AS DOUBLE) END AS share
    FROM category_ranks WHERE category_rank = 1
)
SELECT sums.customer_id AS customer_id,
       sums.day AS day,
       CAST(sums.known_days AS BIGINT) AS known_days,
       CAST(sums.tenure_days AS BIGINT) AS tenure_days,
       CAST(sums.recency_days AS BIGINT) AS recency_days,
       CAST(sums.purchase_days AS BIGINT) AS purchase_days,
       CAST(sums.orders AS BIGINT) AS orders,
       CAST(sums.lines AS BIGINT) AS lines,
       CAST(sums.spend AS DOUBLE) AS spend,
       CAST(sums.refunds AS DOUBLE) AS refunds,
       CAST(moments.first_day_spend AS DOUBLE) AS first_day_spend,
       CAST(sums.orders_28d AS BIGINT) AS orders_28d,
       CAST(sums.orders_90d AS BIGINT) AS orders_90d,
       CAST(sums.orders_prev_28d AS BIGINT) AS orders_prev_28d,
       CAST(sums.spend_28d AS DOUBLE) AS spend_28d,
       CAST(sums.spend_90d AS DOUBLE) AS spend_90d,
       CAST(sums.spend_prev_28d AS DOUBLE) AS spend_prev_28d,
       CAST(sums.purchase_days_28d AS BIGINT) AS purchase_days_28d,
       CAST(sums.purchase_days_90d AS BIGINT) AS purchase_days_90d,
       CASE WHEN sums.orders_90d > 0 THEN CAST(sums.spend_90d AS DOUBLE) / sums.orders_90d END AS average_order_90d,
       CASE WHEN sums.purchase_days > 1
            THEN CAST(sums.tenure_days - sums.recency_days AS DOUBLE) / (sums.purchase_days - 1) END AS mean_gap_days,
       CAST(COALESCE(sums.comeback_gap_days, 0) AS BIGINT) AS comeback_gap_days,
       CAST(sums.items_90d AS DOUBLE) AS items_90d,
       CAST(sums.refunds_90d AS DOUBLE) AS refunds_90d,
       CASE WHEN sums.spend_90d + sums.discount_90d > 0
            THEN CAST(sums.discount_90d AS DOUBLE) / CAST(sums.spend_90d + sums.discount_90d AS DOUBLE) END
           AS discount_share_90d,
       CAST(COALESCE(top_categories.categories, 0) AS BIGINT) AS categories_90d,
       top_categories.category AS top_category_90d,
       top_categories.share AS top_category_share_90d,
       CAST(sums.events_28d AS BIGINT) AS events_28d,
       CAST(sums.events_90d AS BIGINT) AS events_90d,
       CAST(sums.days_since_event AS BIGINT) AS days_since_event,
       CAST(sums.page_views_28d AS BIGINT) AS page_views_28d,
       CAST(sums.days_since_cart AS BIGINT) AS days_since_cart,
       CAST(sums.redemptions_90d AS BIGINT) AS redemptions_90d,
       CAST(sums.exposures_28d AS BIGINT) AS exposures_28d,
       CAST(sums.exposures_90d AS BIGINT) AS exposures_90d,
       CAST(sums.days_since_exposure AS BIGINT) AS days_since_exposure,
       CAST(moments.balance AS DOUBLE) AS balance
FROM sums
LEFT JOIN moments ON moments.customer_id = sums.customer_id AND moments.day = sums.day
LEFT JOIN top_categories ON top_categories.customer_id = sums.customer_id AND top_categories.day = sums.day
ORDER BY sums.day, sums.customer_id

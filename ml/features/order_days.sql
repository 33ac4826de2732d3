-- The orders of each customer and day that brought money, by a number that stands for the order's id. With it, later
-- parts of one order are distinguished from further orders. Lines without an order id are left out.
SELECT customer_id, day, CAST(md5_number_lower(order_id) % 9223372036854775807 AS BIGINT) AS order_number
FROM (
    SELECT customer_id, day, order_id, SUM(CAST(amount AS DECIMAL(18, 4))) AS amount
    FROM transactions
    WHERE order_id IS NOT NULL
    GROUP BY customer_id, day, order_id
) AS totals
WHERE amount > 0
ORDER BY day, customer_id, order_number

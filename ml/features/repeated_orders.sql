-- How many of the orders that a customer's day counts were counted on an earlier day already, at most so many days
-- before: later parts of the same order. What comes after a day never changes what is counted on it.
WITH again AS (
    SELECT customer_id, order_number FROM order_days GROUP BY customer_id, order_number HAVING COUNT(*) > 1
),
parts AS (
    SELECT order_days.customer_id AS customer_id, order_days.day AS day,
           DATE_DIFF('day', LAG(order_days.day) OVER (
               PARTITION BY order_days.customer_id, order_days.order_number ORDER BY order_days.day
           ), order_days.day) AS since
    FROM order_days JOIN again
      ON again.customer_id = order_days.customer_id AND again.order_number = order_days.order_number
)
SELECT customer_id, day, COUNT(*) AS repeated
FROM parts
WHERE since <= $order_days
GROUP BY customer_id, day
ORDER BY day, customer_id

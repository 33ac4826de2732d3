-- Net revenue per customer, day and category; a line without a category counts as none.
SELECT customer_id, day, category,
       CAST(SUM(CAST(amount AS DECIMAL(18, 4))) AS DOUBLE) AS amount,
       COUNT(*) AS lines
FROM transactions
WHERE category IS NOT NULL
GROUP BY customer_id, day, category
ORDER BY day, customer_id, category

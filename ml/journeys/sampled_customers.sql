-- Everybody known on each of the days, or a fixed sample of them: drawn by a salted hash, so it does not depend on the
-- order of rows and a customer once drawn stays drawn.
WITH people AS (
    SELECT customer_id,
           ROW_NUMBER() OVER (ORDER BY sha256(CONCAT($seed, '/', customer_id)), customer_id) AS place
    FROM (SELECT DISTINCT customer_id FROM known) AS everybody
)
SELECT known.customer_id AS customer_id, known.day AS day
FROM known JOIN people ON people.customer_id = known.customer_id
WHERE people.place <= $customers
ORDER BY known.day, known.customer_id

-- Members of each audience.
SELECT audience, COUNT(*) AS customers
FROM audiences WHERE day = $day
GROUP BY audience ORDER BY customers DESC, audience

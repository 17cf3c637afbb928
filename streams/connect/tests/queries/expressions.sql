WITH busy AS (SELECT * FROM task WHERE job BETWEEN 1 AND 400 AND device LIKE 'device-_')
SELECT job / 7 AS part, job % 7 AS rest, -job AS less, cpu * 1.5 AS more, 100 / (event_type - 3) AS risky,
  CASE WHEN cpu > 0.5 THEN 'hot' WHEN cpu > 0.25 THEN 'warm' ELSE 'cold' END AS heat,
  TRY_CAST(device AS INT) AS none, COALESCE(TRY_CAST(device AS INT), n) AS some, UPPER(device) || '!' AS name,
  EXTRACT(SECOND FROM ts) AS second, ts + INTERVAL '1' DAY AS tomorrow, ROUND(cpu, 1) AS about, ABS(event_type - 4) AS apart
FROM busy WHERE category IN (0, 2) AND NOT (event_type = 5) AND device IS NOT NULL;

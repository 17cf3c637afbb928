SELECT window_start, COUNT(*) AS n, COUNT(DISTINCT device) AS devices, APPROX_COUNT_DISTINCT(device) AS about,
  APPROX_QUANTILE(cpu, 0.9) AS high, SUM(job) AS jobs, AVG(job) AS job,
  SUM(cpu) AS cpu, MIN(cpu) AS low, MAX(device) AS device, FIRST_VALUE(n) AS first, LAST_VALUE(n) AS last,
  VAR_POP(cpu) AS var, STDDEV_SAMP(job) AS spread, COUNT(*) FILTER (WHERE event_type = 1) AS ones,
  SUM(CAST(cpu AS DECIMAL(5, 3))) AS exact, AVG(CAST(cpu AS DECIMAL(5, 3))) AS mean
FROM TUMBLE(TABLE task, DESCRIPTOR(ts), INTERVAL '5' SECOND)
GROUP BY window_start, window_end;

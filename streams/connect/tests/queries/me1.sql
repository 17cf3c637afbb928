INSERT INTO power SELECT window_start, AVG(mf1) AS a1, AVG(mf2) AS a2, AVG(mf3) AS a3
FROM HOP(TABLE machine, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '60' SECOND)
GROUP BY window_start, window_end;

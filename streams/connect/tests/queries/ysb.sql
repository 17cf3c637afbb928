CREATE VIEW viewed AS SELECT e.ts, c.campaign FROM ad_event AS e
JOIN campaign FOR SYSTEM_TIME AS OF e.ts AS c ON e.ad = c.ad WHERE e.event_type = 'view';
INSERT INTO views SELECT window_start, campaign, COUNT(*) AS views
FROM TUMBLE(TABLE viewed, DESCRIPTOR(ts), INTERVAL '10' SECOND) GROUP BY window_start, window_end, campaign;

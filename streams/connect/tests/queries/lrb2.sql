CREATE VIEW seg AS SELECT ts, vehicle, highway, direction, pos / 5280 AS segment, speed FROM car;
SELECT window_start, highway, direction, segment, COUNT(*) AS vehicles
FROM (SELECT window_start, window_end, vehicle, highway, direction, segment
      FROM HOP(TABLE seg, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '30' SECOND)
      GROUP BY window_start, window_end, vehicle, highway, direction, segment)
GROUP BY window_start, window_end, highway, direction, segment;

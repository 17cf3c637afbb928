SELECT window_start, auction, bids FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY bids DESC, auction) AS place FROM (
    SELECT window_start, window_end, auction, COUNT(*) AS bids
    FROM HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '60' SECOND)
    GROUP BY window_start, window_end, auction)) WHERE place <= 1;

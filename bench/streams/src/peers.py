"""Queries of the bench in engines that are installed: DuckDB and DataFusion, through Python.

Started by `cargo xtask bench streams --peers`, once for each query. Its folder has a file for each
column, little-endian values one behind the other. It reads a command a line and answers with one:

    peers                        the engines that can be imported, with their versions
    run ENGINE THREADS           seconds that the query took, its rows gathered as Arrow
    answer ENGINE PATH           its rows as doubles, one behind the other; how many there are
"""
import sys
import time

import numpy
import pyarrow

SECOND = 1_000_000
TYPES = {"ts": "<i8", "job": "<i8", "category": "<i4", "cpu": "<f8", "watts": "<f8", "ad": "<i8",
         "event_type": "<i8", "mf1": "<f8", "mf2": "<f8", "mf3": "<f8"}


def hopping(panes, sums, results, size, keys):
    """Sums by second first, then windows of so many seconds from each second on."""
    by = ", ".join(["w"] + keys)
    window = "PARTITION BY " + ", ".join(keys) + " " if keys else ""
    return (f"WITH panes AS (SELECT {panes}, {sums} FROM t GROUP BY {by}) "
            f"SELECT w * {SECOND} AS w, {results} FROM panes WINDOW hop AS "
            f"({window}ORDER BY w RANGE BETWEEN CURRENT ROW AND {size - 1} FOLLOWING)")


def query(name, divide):
    """The query in the peers' SQL; `divide` writes a division of integers."""
    second = divide("ts", SECOND) + " AS w"
    if name == "SUMS":
        return (f"SELECT {divide('ts', SECOND)} * {SECOND} AS w, category, SUM(cpu) AS v FROM t "
                "GROUP BY 1, 2")
    if name == "CM1":
        return hopping(second + ", category", "SUM(cpu) AS v",
                       "category, SUM(v) OVER hop AS v", 60, ["category"])
    if name == "SG1":
        return hopping(second, "SUM(watts) AS v, COUNT(*) AS n",
                       "SUM(v) OVER hop / SUM(n) OVER hop AS v", 3600, [])
    if name == "ME1":
        sums = ", ".join(f"SUM(mf{at}) AS v{at}" for at in (1, 2, 3))
        results = ", ".join(f"SUM(v{at}) OVER hop / SUM(n) OVER hop AS a{at}" for at in (1, 2, 3))
        return hopping(second, sums + ", COUNT(*) AS n", results, 60, [])
    if name == "YSB":
        return (f"SELECT {divide('ts', 10 * SECOND)} * {10 * SECOND} AS w, campaign, COUNT(*) AS n "
                "FROM t JOIN campaigns ON t.ad = campaigns.ad WHERE event_type = 1 GROUP BY 1, 2")
    if name == "KEYS":
        return "SELECT job, COUNT(*) AS n, SUM(cpu) AS v FROM t GROUP BY job"
    raise SystemExit(f"{name} is not written for peers")


def tables(folder, columns):
    """The table of events, and that of campaigns."""
    arrays = {name: numpy.fromfile(f"{folder}/{name}", TYPES[name]) for name in columns}
    ads = numpy.arange(1_000)
    return pyarrow.table(arrays), pyarrow.table({"ad": ads, "campaign": ads % 100})


class DuckDb:
    """DuckDB over tables of its own, in memory."""

    def __init__(self, events, campaigns):
        import duckdb

        self.version = duckdb.__version__
        self.connection = duckdb.connect()
        self.connection.register("events", events)
        self.connection.execute("CREATE TABLE t AS SELECT * FROM events")
        self.connection.register("ads", campaigns)
        self.connection.execute("CREATE TABLE campaigns AS SELECT * FROM ads")

    def threads(self, count):
        self.connection.execute(f"SET threads = {count}")

    def run(self, name):
        sql = query(name, lambda value, by: f"({value} // {by})")
        return self.connection.sql(sql).to_arrow_table()


class DataFusion:
    """DataFusion over batches of Arrow, in memory."""

    def __init__(self, events, campaigns):
        import datafusion

        self.version = datafusion.__version__
        self.module = datafusion
        self.tables = {"t": events, "campaigns": campaigns}
        self.context = None

    def threads(self, count):
        config = self.module.SessionConfig().with_target_partitions(count)
        self.context = self.module.SessionContext(config)
        for name, table in self.tables.items():
            batches = table.to_batches(max_chunksize=8_192)
            parts = [batches[at::count] for at in range(count)]
            self.context.register_record_batches(name, [part for part in parts if part])

    def run(self, name):
        sql = query(name, lambda value, by: f"({value} / {by})")
        return pyarrow.Table.from_batches(self.context.sql(sql).collect())


def main():
    folder, name, columns = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
    given = tables(folder, columns)
    engines = {}
    for engine in (DuckDb, DataFusion):
        try:
            engines[engine.__name__] = engine(*given)
        except ImportError as error:
            print(f"{engine.__name__}: {error}", file=sys.stderr)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "peers":
            print(" ".join(f"{key} {engine.version}" for key, engine in engines.items()), flush=True)
        elif words[0] == "run":
            engine = engines[words[1]]
            engine.threads(int(words[2]))
            begun = time.perf_counter()
            engine.run(name)
            print(time.perf_counter() - begun, flush=True)
        elif words[0] == "answer":
            engine = engines[words[1]]
            engine.threads(1)
            rows = engine.run(name)
            doubles = [column.to_numpy().astype("<f8") for column in rows.columns]
            numpy.column_stack(doubles).tofile(words[2])
            print(rows.num_rows, flush=True)


main()

"""One Spark session for the whole test run."""

import os
import shutil
import sys
from collections.abc import Iterator

import ibis
import pytest

NO_JAVA = "Spark needs Java (17 or later): no `java` on the path and JAVA_HOME is not set"


@pytest.fixture(scope="session")
def spark_connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ibis.BaseBackend]:
    """Ibis on Spark, local, two cores, in UTC; skips the test where there is no Java."""
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        pytest.skip(NO_JAVA)
    pyspark_sql = pytest.importorskip("pyspark.sql", reason="Spark is in the extra `spark`")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.default.parallelism": "2",
        "spark.sql.shuffle.partitions": "2",
        # Answers here have tens of rows: planning and compiling them is what takes the time.
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("spark-warehouse")),
    }
    builder = pyspark_sql.SparkSession.builder.master("local[2]").appName("journeylab-tests")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield ibis.pyspark.connect(session)
    session.stop()

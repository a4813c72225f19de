"""Make the hospitals' data file from UCI's Heart Disease files: `python prepare.py DOWNLOADED FOA_DATA`.

DOWNLOADED holds processed.cleveland.data, processed.hungarian.data, processed.switzerland.data and processed.va.data; the
result is FOA_DATA/fl_heart_disease/heart_disease_4centers.csv: a row a patient, an empty cell where a value is missing.
"""

import csv
import sys
from pathlib import Path

CENTRES = ("cleveland", "hungarian", "switzerland", "va")
COLUMNS = (
    "age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca", "thal", "num",
)  # fmt: skip
MISSING = ("?", "-9", "-9.0")


def prepare(downloaded: Path, data: Path) -> Path:
    """Write the file; gives its path."""
    target = data / "fl_heart_disease" / "heart_disease_4centers.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("center", *COLUMNS))
        for centre in CENTRES:
            for line in (downloaded / f"processed.{centre}.data").read_text().splitlines():
                values = [value.strip() for value in line.split(",")]
                if len(values) == len(COLUMNS):
                    out.writerow((centre, *("" if value in MISSING else f"{float(value):g}" for value in values)))
    return target


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.stdout.write(f"{prepare(Path(sys.argv[1]), Path(sys.argv[2]))}\n")

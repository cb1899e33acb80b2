"Rows of a table of results from run folders: collect.py results/runs/TABLE.csv RUN ... ; a run that is there already is replaced."
import sys
from pathlib import Path
import pandas as pd
from cifar_hrf.results import read_runs

table,*runs = map(Path, sys.argv[1:])
had = list(pd.read_csv(table, nrows=0)) if table.exists() else []
df = read_runs([*([table] if had else []), *runs]).drop_duplicates('run', keep='last')
for o in runs: df['fault'] = df.fault.map(lambda s: s.replace(f'{o.parent}/', ''), na_action='ignore') # no folder of this machine
df = df[[*had, *(o for o in df if o not in had and df[o].notna().any())]] # new columns behind
df.round(dict(accuracy=6, accuracy_tta=6, train_seconds=2, seconds=2)).to_csv(table, index=False)

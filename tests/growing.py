"A table of a long test: it gets a row after each case, and one that exists is continued."
from pathlib import Path
import pandas as pd
import torch
from cifar_hrf.core import write_file
from cifar_hrf.runs import environment

def grow(cases, table=None):
    "The rows that `cases(first)` yields, from case `first` on, behind those of `table` (.csv), each with machine, versions and commit"
    rows = pd.read_csv(table, keep_default_na=False).to_dict('records') if table and Path(table).exists() else []
    env = {k: o for k,o in environment(torch.device('cpu'), 0).items() if k in 'cpu threads python torch fastai commit dirty time'.split()}
    for row in cases(len(rows)):
        rows.append(row|env)
        if table: write_file(Path(table), pd.DataFrame(rows).to_csv(index=False))
    return pd.DataFrame(rows)

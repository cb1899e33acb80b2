"Rows of a table of results from run folders: collect.py results/TABLE.csv RUN ... ; a run that is there already is replaced."
import dataclasses, sys
from pathlib import Path
import pandas as pd
from cifar_hrf.recipes import recipes
from cifar_hrf.train import load_run

summary = 'status accuracy epochs train_seconds seconds n_params'.split()
env = 'evaluated_on n_train n_valid precision device cpu gpu threads commit dirty cifar_hrf python torch fastai fingerprint time'.split()

def row(path):
    r = load_run(path)
    ours,named = [dataclasses.asdict(o) for o in (r.recipe, recipes[r.recipe.name])]
    changed = ' '.join(f'{k}={v}' for k,v in ours.items() if v!=named[k] and k not in ('about','lr_test'))
    last = r.history.iloc[-1]
    return dict(run=r.path.name, recipe=r.recipe.name, changed=changed, data=r.env['data'], seed=r.env['seed'], **{k: r.summary[k] for k in summary},
                clean_acc=last.get('clean_acc'), best_acc=r.history.valid_acc.max(), **{k: r.env[k] for k in env})

table,*runs = map(Path, sys.argv[1:])
df = pd.DataFrame([row(o) for o in runs])
if table.exists(): df = pd.concat([pd.read_csv(table), df]).drop_duplicates('run', keep='last')
df.round(dict(accuracy=6, train_seconds=2, seconds=2)).to_csv(table, index=False)

"Compute the tables and figures of nbs/results.ipynb and nbs/index.ipynb from results/ again: results.py [--check]"
import os, sys
import nbformat
from execnb.shell import CaptureShell
from readme import directives, root

pages = 'results.ipynb','index.ipynb'

def computed(page, cell): # from results/?
    if page=='index.ipynb': return 'echo: false' in directives(cell)
    return cell.cell_type=='code' and 'eval: false' not in directives(cell) and 'nbdev_export()' not in cell.source

def run():
    "Each page as it is, and the new outputs of its computed cells by their id"
    os.chdir(root/'nbs')
    shell = CaptureShell()
    def outputs(source):
        res = shell.run(source)
        if shell.exc: sys.exit(f'{source}\n{shell.exc!r}')
        return nbformat.from_dict(res)
    outputs('from cifar_hrf.all import *\nfrom IPython.display import Markdown, display')
    for page in pages:
        nb = nbformat.read(root/'nbs'/page, as_version=4)
        yield page,nb,{c.id: outputs(c.source) for c in nb.cells if computed(page, c)}

def text(outputs): # pictures may differ between versions of matplotlib
    def joined(o): return ''.join(o) if isinstance(o, list) else o
    return [{k: joined(v) for k,v in o.get('data', {}).items() if k[:6]!='image/'} or joined(o.get('text')) for o in outputs]

def differences():
    for page,nb,outputs in run():
        for c in nb.cells:
            if c.get('id') in outputs and text(c.outputs)!=text(outputs[c.id]):
                yield f'nbs/{page}: cell {c.id} shows something else than results/ gives; run make results'

def render():
    for page,nb,outputs in run():
        for c in nb.cells: c.update({'outputs': outputs[c.id]} if c.get('id') in outputs else {})
        nbformat.write(nb, root/'nbs'/page)

if __name__=='__main__':
    if sys.argv[1:]!=['--check']: sys.exit(render())
    faults = [*differences()]
    for o in faults: print(o, file=sys.stderr)
    sys.exit(bool(faults))

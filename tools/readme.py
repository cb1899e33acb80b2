"README.md from nbs/index.ipynb: no hidden cells, no standard error, fences with their language. Needs no Quarto."
import re, sys
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter

root = Path(__file__).resolve().parent.parent

def directives(cell): return [o[2:].strip() for o in cell.source.splitlines() if o.startswith('#|')]

def render():
    "The text of README.md"
    nb = nbformat.read(root/'nbs/index.ipynb', as_version=4)
    nb.metadata['language_info'] = dict(name='python')
    cells = []
    for c in nb.cells:
        if c.cell_type=='code':
            flags = directives(c)
            if 'hide' in flags: continue
            c.source = '\n'.join(o for o in c.source.splitlines() if not o.startswith('#|')).strip()
            c.outputs = [o for o in c.outputs if o.get('name')!='stderr' and '<progress' not in str(o) and '<style>' not in str(o)]
            if 'echo: false' in flags: c.metadata['transient'] = dict(remove_source=True)
        cells.append(c)
    nb.cells = cells
    text,_ = MarkdownExporter().from_notebook_node(nb)
    text = re.sub(r'\n{3,}', '\n\n', text).strip()+'\n'
    text = re.sub(r'\]\((?!https?:|\.\./|#)', '](nbs/', text)
    return text.replace('](../', '](') # links of nbs/, seen from the root

if __name__=='__main__': (root/'README.md').write_text(render(), encoding='utf-8')

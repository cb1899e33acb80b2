"What `make test` checks before the notebooks run: package and README in step with the notebooks, notebooks clean, links that exist."
import ast, filecmp, re, shutil, subprocess, sys, tempfile
from configparser import ConfigParser
from pathlib import Path
import nbformat
from readme import render, root

cfg = ConfigParser(delimiters=['='])
cfg.read(root/'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']

def in_step():
    "What nbdev_export and nbdev_clean would change, found in a copy"
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)/root.name
        d.mkdir()
        for o in 'settings.ini pyproject.toml setup.py README.md'.split(): shutil.copy(root/o, d)
        for o in 'nbs','cifar_hrf': shutil.copytree(root/o, d/o, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', '_proc'))
        for o in 'nbdev_export','nbdev_clean': subprocess.run([Path(sys.executable).parent/o], cwd=d, check=True, stdout=subprocess.DEVNULL)
        ours = {p: {f.relative_to(p) for o in ('nbs','cifar_hrf') for f in (p/o).rglob('*') if f.suffix in ('.py','.ipynb')
                    and 'ipynb_checkpoints' not in str(f)} for p in (root,d)}
        for f in sorted(ours[root]^ours[d]): yield f'{f}: is not what nbdev_export makes'
        for f in sorted(ours[root]&ours[d]):
            if not filecmp.cmp(root/f, d/f, shallow=False):
                yield f'{f}: ' + ('not clean' if f.suffix=='.ipynb' else 'out of step with its notebook')
        if not filecmp.cmp(root/'pyproject.toml', d/'pyproject.toml', shallow=False): yield 'pyproject.toml: nbdev_export changes it'

def readme():
    if render()!=(root/'README.md').read_text(encoding='utf-8'): yield 'README.md: out of step with nbs/index.ipynb'

def notebooks():
    "Size, length of lines, paths of a machine in outputs, links, and the URLs in Colab cells, which settings.ini decides"
    url = cfg['git_url'].replace('%(user)s', cfg['user']).replace('%(repo)s', cfg['repo'])
    for f in sorted((root/'nbs').rglob('*.ipynb')):
        rel,text = f.relative_to(root),f.read_text(encoding='utf-8')
        if '.ipynb_checkpoints' in f.parts: continue
        size = f.stat().st_size
        if size>400_000: yield f'{rel}: {size//1000} KB, more than 400'
        nb = nbformat.reads(text, as_version=4)
        for c in nb.cells:
            for l in c.source.splitlines() if c.cell_type=='code' else ():
                if re.search(r':\s+[%!]\w', l): yield f'{rel}: a magic needs a line of its own, or Jupyter does not run it: {l.strip()[:60]}'
                if len(l)>120: yield f'{rel}: a line of {len(l)} characters, more than 120: {l.strip()[:60]}'
            for o in c.get('outputs', []):
                shown = str({k: v for k,v in o.get('data', {}).items() if not k.startswith('image/')})+o.get('text', '')
                if m := re.search(r'/(home|root|Users|usr|tmp|work)/\S*|site-packages', shown): yield f'{rel}: an output shows the path {m[0][:60]}'
                if o.output_type=='error': yield f'{rel}: an output is an error'
                if o.get('name')=='stderr': yield f'{rel}: an output shows standard error: {o.text[:60]!r}'
        for found in re.findall(r'git(?:\+| clone -q --depth 1 )(https://github\.com/[\w-]+/[\w-]+)', text):
            if found!=url: yield f'{rel}: installs {found}, settings.ini says {url}'
        prefix = f"{cfg['user']}/{cfg['repo']}/blob/{cfg['branch']}/"
        opened = re.findall(r'colab\.research\.google\.com/github/([\w/.-]+\.ipynb)', text)
        for o in opened:
            if not (o.startswith(prefix) and (root/o.removeprefix(prefix)).exists()): yield f'{rel}: its Colab badge opens {o}'
        if 'tutorials' in rel.parts or 'replications' in rel.parts:
            if f'{prefix}{rel}' not in opened or f'git+{url}' not in text: yield f'{rel}: needs a Colab badge and an install cell'
            for o in '## Check yourself','## Break it':
                if o not in text: yield f'{rel}: has no section "{o}"'

def imports():
    "nbdev runs each cell that imports something when it makes the docs of a module, so such a cell should do nothing else"
    for f in sorted((root/'nbs').glob('[0-9]*.ipynb')):
        for c in nbformat.read(f, 4).cells:
            if c.cell_type!='code' or re.search(r'^#\| *(export|eval: *false)', c.source, re.M) or 'nbdev_export()' in c.source: continue
            kinds = {type(o) for o in ast.walk(ast.parse(re.sub(r'^\s*[%!].*', '', c.source, flags=re.M)))}
            if kinds&{ast.Import,ast.ImportFrom} and kinds&{ast.Expr,ast.Assign}: yield f'{f.relative_to(root)}: cell {c.id} imports and does more; make it two cells'

def _markdown(f): return '\n\n'.join(c.source for c in nbformat.read(f, 4).cells if c.cell_type=='markdown') if f.suffix=='.ipynb' else f.read_text('utf-8')

def _anchors(text): # of the headings, as GitHub and Quarto name them
    return {re.sub(r'[^\w -]', '', o).strip().lower().replace(' ', '-') for o in re.findall(r'^#+ +(.+)$', text, re.M)}

def links():
    "Links of pages and Markdown files within the repository: is there such a file, and such a heading?"
    files = *(root/'nbs').rglob('*.ipynb'),*(root/'results').glob('*.md'),*root.glob('*.md')
    texts = {f.resolve(): _markdown(f) for f in sorted(files) if '.ipynb_checkpoints' not in f.parts}
    for f,text in texts.items():
        for link,anchor in re.findall(r'\]\((?![a-z]+:)([^)#\s]*)#?([^)\s]*)\)', text):
            to = (f.parent/link).resolve() if link else f
            if not to.exists(): yield f'{f.relative_to(root)}: a link to {link}, which does not exist'
            elif anchor and anchor not in _anchors(texts[to]): yield f'{f.relative_to(root)}: a link to {link}#{anchor}, and no such heading'

def versions():
    "What CITATION.cff and CHANGELOG.md say of the version"
    for f,text in {'CITATION.cff': f"version: {cfg['version']}\n", 'CHANGELOG.md': f"## {cfg['version']}"}.items():
        if text not in (root/f).read_text('utf-8'): yield f'{f}: does not have the version of settings.ini, {text.strip()}'

if __name__=='__main__':
    faults = [o for check in (in_step,readme,notebooks,imports,links,versions) for o in check()]
    for o in faults: print(o, file=sys.stderr)
    if faults: sys.exit('`make prepare` mends what can be mended by a command')
    print('package, README and notebooks are in step')

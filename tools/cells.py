"""Run the code cells of notebooks in this Python, one notebook in a process each, where no Jupyter is installed: cells.py [FLAG] NB ...
Cells flagged `slow` or `cuda` only if that is FLAG; a cell that fails is named, and the others go on. The status says whether all passed."""
import json, os, re, subprocess, sys, time, traceback, types
from pathlib import Path

def run(path, flag, compiled=lambda code,page,cell: compile(code, f'{page} {cell}', 'exec')): # -> did all cells pass?
    import matplotlib
    from fastai.torch_core import default_device
    matplotlib.use('Agg')
    os.chdir(path.parent)
    page = sys.modules['__main__'] = types.ModuleType('__main__') # so that what it defines can be pickled
    passed = True
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        code = ''.join(cell['source'])
        marks = set(re.findall(r'^#\| *(slow|cuda|eval: *false)', code, re.M))
        if cell['cell_type']!='code' or marks-{flag} or 'nbdev_export()' in code or re.search(r'^\s*[%!]|%pip', code, re.M): continue
        default_device(None if 'cuda' in marks else False) # the others are written for a CPU
        start = time.perf_counter()
        try: exec(compiled(code, path.name, cell['id']), vars(page))
        except (Exception, SystemExit):
            passed = False
            print(f'{path.name} {cell["id"]}: failed\n{traceback.format_exc(limit=-3)[-1500:]}', flush=True)
        else:
            if marks: print(f'{path.name} {cell["id"]}: passed in {time.perf_counter()-start:.1f} s', flush=True)
    return passed

if __name__=='__main__':
    flag,*paths = sys.argv[1:] if sys.argv[1:2] in (['slow'],['cuda']) else ['',*sys.argv[1:]]
    if not paths: sys.exit(__doc__)
    if len(paths)==1: sys.exit(not run(Path(paths[0]).resolve(), flag))
    failed = [o for o in paths if subprocess.run([sys.executable, __file__, *filter(None, [flag]), o]).returncode]
    print(f'failed: {" ".join(failed)}' if failed else 'all notebooks passed')
    sys.exit(bool(failed))

"""Run the code cells of notebooks in this Python, one notebook in a process each, where no Jupyter is installed: cells.py [FLAG] NB ...
Cells flagged `slow` or `cuda` only if that is FLAG; a cell that fails is named, and the others go on."""
import json, re, subprocess, sys, time, traceback, types
from pathlib import Path

def run(path, flag):
    import os, matplotlib
    matplotlib.use('Agg')
    os.chdir(path.parent)
    page = sys.modules['__main__'] = types.ModuleType('__main__') # so that what it defines can be pickled
    failed = 0
    for cell in json.loads(path.read_text())['cells']:
        code = ''.join(cell['source'])
        marks = set(re.findall(r'^#\| *(slow|cuda|eval: *false)', code, re.M))
        if cell['cell_type']!='code' or marks-{flag} or 'nbdev_export()' in code or re.search(r'^\s*[%!]|%pip', code, re.M): continue
        start = time.perf_counter()
        try: exec(compile(code, f'{path.name} {cell["id"]}', 'exec'), vars(page))
        except Exception:
            failed += 1
            print(f'{path.name} {cell["id"]}: failed\n{traceback.format_exc(limit=-3)[-1500:]}', flush=True)
        else:
            if marks: print(f'{path.name} {cell["id"]}: passed in {time.perf_counter()-start:.1f} s', flush=True)
    return failed

if __name__=='__main__':
    flag,*args = sys.argv[1:] if sys.argv[1:] and not sys.argv[1].endswith('.ipynb') else ('',*sys.argv[1:])
    if len(args)==1: sys.exit(min(run(Path(args[0]).resolve(), flag), 1))
    sys.exit(max(subprocess.run([sys.executable, __file__, *([flag] if flag else []), o]).returncode for o in args))

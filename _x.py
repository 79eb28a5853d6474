import sys, os, subprocess, time, tempfile, contextlib, io
from tests.conftest import SMALL, TEXT, call
from glassgpt.recipes import Recipe
from glassgpt.cli.main import main
import warnings
d=tempfile.mkdtemp(); os.chdir(d); os.environ["GLASSGPT_CACHE"]=d+"/c"
open("t.txt","w").write(TEXT)
import torch; torch.set_num_threads(1)
vals=["0","-1",str(2**31),str(2**63-1),str(2**63),str(10**25),"9"*400,"9"*5000,"1e300","5e-324","nan","inf","-inf","","1e5","0x10"," 1 ","1_000","1e-20","0.999999999999999999","1000","1e12","²","٣"]
only=sys.argv[1:] 
n=0
for sec,info in Recipe.model_fields.items():
    if sec=="description": continue
    for f,i in info.annotation.model_fields.items():
        if not any(t in str(i.annotation) for t in ("int","float")): continue
        if only and f not in only: continue
        for v in vals:
            if f in ("batch_size","gradient_accumulation","n_layer","block_size","n_embd","n_head","muon_rounds","max_new_tokens","n_inner","ngram_entries","vocab_size","max_steps","epochs") and v in ("1e5","1_000","1000",str(10**12)) : continue
            words=["train","--data","t.txt","--out",f"o{n}",*SMALL,"--training.max-steps","3"]; n+=1
            opt=[f"--{sec}.{f.replace('_','-')}={v}"]
            out,err=io.StringIO(),io.StringIO(); b=time.time()
            if f=="checkpoint_every": pass
            pid=os.fork()
            if pid==0:
                import resource; resource.setrlimit(resource.RLIMIT_AS,(6*2**30,)*2)
                with open("o","w") as a, open("e","w") as e:
                    os.dup2(a.fileno(),1); os.dup2(e.fileno(),2)
                    import signal; signal.alarm(40)
                    try: main(words+opt)
                    except SystemExit as x: os._exit(x.code or 0)
                os._exit(99)
            _,st=os.waitpid(pid,0); code=os.waitstatus_to_exitcode(st)
            e=open("e").read(); dt=time.time()-b
            bad = code not in (0,2) or dt>15 or (code==2 and (len(e.splitlines())!=1 or len(e)>400)) or (code==2 and f not in e) or (code==0 and e)
            if bad: print("BAD" if code not in (0,2) or len(e.splitlines())!=1 else "note", opt[0][:60], code, round(dt,1), repr(e[-300:]), flush=True)
            import shutil; shutil.rmtree(f"o{n-1}",ignore_errors=True)
print(n)

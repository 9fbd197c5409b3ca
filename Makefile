# Thin aliases: everything is in tasks.py, which needs no make. Arguments: make test ARGS="-k log"
.DEFAULT_GOAL := check
.PHONY: demo test check dev bench docs

demo test check dev docs:
	@python3 tasks.py $@ $(ARGS)

bench:
	@python3 tasks.py bench $(SUITE) $(ARGS)

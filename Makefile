# For people whose fingers type make; everything is in `run`. ARGS: make demo ARGS="--json"
.PHONY: demo test check
demo test check:
	@sh ./run $@ $(ARGS)

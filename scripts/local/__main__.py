"""Starts the demo."""

import signal

if __name__ == "__main__":
    # While the demo's modules load there is nothing to stop yet: Ctrl-C ends us without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from scripts.local.demo import run

    run()

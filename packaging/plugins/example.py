#!/usr/bin/env python3
"""A BMC plugin of muster that does all that one can do, in Python (docs/plugins.md has the contract).

Its machine is a file in a directory beside this program, NODE, that holds JSON. To drive hardware of yours, keep main() and change the class Machine: a
method for each request, by its name; a request without a method is not offered.
"""

import base64
import json
import os
import sys
import time


class Refusal(Exception):
    """What cannot be done: kind, why, and what to do about it."""

    def __init__(self, kind, why, do=""):
        super().__init__(why)
        self.answer = {"kind": kind, "why": why, "do": do}


class Machine:
    FRESH = {
        "power": "off",
        "boot": {"device": "default"},
        "log": [{"id": "1", "time": "2026-03-01T00:00:00Z", "text": "Fan 1 has failed", "health": "critical", "sensor": "Fan 1", "kind": "fan"}],
        "settings": {"lan.address": "10.1.1.7", "lan.gateway": "10.1.0.1"},
        "firmware": "1.0",
    }

    def __init__(self, target):
        self.address, self.user, self.password = target.get("address"), target.get("user"), target.get("password")
        directory = os.path.abspath(sys.argv[0]) + ".d"
        os.makedirs(directory, exist_ok=True)
        self.path = os.path.join(directory, target["node"])

    def read(self):
        try:
            with open(self.path, encoding="utf-8") as f:
                return {**self.FRESH, **json.load(f)}
        except FileNotFoundError:
            return dict(self.FRESH)

    def change(self, **values):
        state = {**self.read(), **values}
        with open(self.path + ".new", "w", encoding="utf-8") as f:
            json.dump(state, f)
        os.replace(self.path + ".new", self.path)

    def power(self, _):
        return self.read()["power"]

    def setPower(self, r):
        on = self.read()["power"] == "on"
        if r["action"] in ("cycle", "reset", "diag") and not on:
            raise Refusal("failed", "that cannot be done while it is off", "Power the node on first")
        if r["action"] in ("on", "off", "softoff"):
            self.change(power="on" if r["action"] == "on" else "off")

    def bootDevice(self, _):
        return self.read()["boot"]

    def setBootDevice(self, r):
        self.change(boot={k: r[k] for k in ("device", "persist", "firmware") if k in r})

    def info(self, _):
        return {"protocol": "example.py", "vendor": "Example", "model": "file", "firmware": self.read()["firmware"]}

    def identify(self, r):
        self.change(located=r["on"])

    def sensors(self, _):
        on = self.read()["power"] == "on"
        return [
            {"name": "Inlet", "kind": "temperature", "value": 21.5, "unit": "°C", "health": "ok", "highWarning": 38, "highCritical": 42},
            {"name": "Fan 1", "kind": "fan", "unit": "RPM", **({"value": 4200, "health": "ok"} if on else {"health": "absent"})},
        ]

    def eventLog(self, _):
        return self.read()["log"]

    def clearEventLog(self, _):
        self.change(log=[])

    def inventory(self, _):
        return [
            {"slot": "CPU 1", "kind": "cpu", "vendor": "Example", "cores": 8, "threads": 16, "health": "ok"},
            {"slot": "NIC 1 port 1", "kind": "port", "mac": "02:00:00:00:0a:01", "mbps": 25000},
        ]

    def settings(self, _):
        return [{"name": n, "value": v} for n, v in sorted(self.read()["settings"].items())]

    def set(self, r):
        known = self.read()["settings"]
        strange = [s["name"] for s in r["settings"] if s["name"] not in known]
        if strange:
            raise Refusal("invalid", "there is no setting " + ", ".join(strange), "There are " + ", ".join(sorted(known)))
        self.change(settings={**known, **{s["name"]: s["value"] for s in r["settings"]}})
        return []  # the names of those that wait for the next boot

    def resetController(self, _):
        pass

    def firmware(self, _):
        return [{"name": "BMC", "version": self.read()["firmware"], "updatable": True}]

    def updateFirmware(self, r):
        with open(r["file"], "rb") as f:
            version = f.readline(64).decode("utf-8", "replace").strip()
        for percent in (0, 50, 100):
            say({"id": r["id"], "progress": {"step": "install", "percent": percent}})
        self.change(firmware=version)

    def raw(self, r):
        if r.get("request") != "state":
            raise Refusal("invalid", "the only request is: state")
        return json.dumps(self.read())

    def serial(self, r):
        """Gives back what is typed, until stdin ends. This process serves nothing else."""
        say({"id": r["id"]})
        say({"data": base64.b64encode(b"login: ").decode()})
        for line in sys.stdin:
            typed = json.loads(line)
            if "data" in typed:
                say({"data": typed["data"]})
        sys.exit()

    def watch(self, r):
        """Tells of what is added to the log, until stdin ends or muster has enough. This process serves nothing else."""
        say({"id": r["id"]})
        seen = {e["id"] for e in self.read()["log"]}
        while True:
            for e in self.read()["log"]:
                if e["id"] not in seen:
                    seen.add(e["id"])
                    say({"event": e})
            time.sleep(0.2)


def say(line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main():
    able = [name for name in vars(Machine) if not name.startswith("_") and name not in ("read", "change", "FRESH")]
    say({"hello": "bmc", "versions": [1], "name": "example.py", "version": "1", "can": able})
    machine = None
    for line in iter(sys.stdin.readline, ""):
        r = json.loads(line)
        try:
            if r["do"] == "open":
                machine, answer = Machine(r["target"]), None
            elif r["do"] in able:
                answer = getattr(machine, r["do"])(r)
            else:
                raise Refusal("unsupported", "that is not known here")
            say({"id": r["id"], "answer": answer})
        except Refusal as e:
            say({"id": r["id"], "error": e.answer})
        except OSError as e:
            say({"id": r["id"], "error": {"kind": "failed", "why": str(e)}})


if __name__ == "__main__":
    main()

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The manifests for Kubernetes are well-formed and agree with the programs and their units.

No API server is asked: the keys of a pod are compared with KEYS, those that the manifests use. To
see it fail: take a capability out of daemonset.yaml, change a group, or misspell an option.
Usage: test_kubernetes.py VERSION TPROXY_LOAD TPROXY_RELAY TPROXYCTL
"""

import glob
import os
import re
import subprocess
import sys

import common

try:
    import yaml
except ImportError:
    yaml = None

VERSION, *PROGRAMS = sys.argv[1:5]
del sys.argv[1:5]
PROGRAMS = {os.path.basename(path): path for path in PROGRAMS}
DIRECTORY = os.path.join(common.TREE, "scripts/packaging/kubernetes")
PINS = "/host/bpf/tproxy"

KEYS = {
    "pod": {"hostNetwork", "dnsPolicy", "automountServiceAccountToken", "priorityClassName",
            "tolerations", "nodeSelector", "terminationGracePeriodSeconds", "securityContext",
            "initContainers", "containers", "volumes"},
    "container": {"name", "image", "command", "env", "securityContext", "readinessProbe",
                  "startupProbe", "restartPolicy", "volumeMounts", "resources"},
    "securityContext": {"runAsUser", "runAsGroup", "runAsNonRoot", "allowPrivilegeEscalation",
                        "readOnlyRootFilesystem", "capabilities", "seccompProfile"},
    "volumeMount": {"name", "mountPath", "mountPropagation", "readOnly"},
}


def text_of(*path):
    with open(os.path.join(common.TREE, *path), encoding="utf-8") as file:
        return file.read()


def documents():
    for path in sorted(glob.glob(os.path.join(DIRECTORY, "*.yaml"))):
        for document in yaml.safe_load_all(text_of(path)):
            yield os.path.basename(path), document


def pods():
    for name, document in documents():
        if document["kind"] == "Pod":
            yield name, document["spec"]
        elif "template" in document.get("spec", {}):
            yield name, document["spec"]["template"]["spec"]


def ours():
    """(manifest, container) of each container that runs a program of tproxy."""
    for name, pod in pods():
        for container in pod.get("initContainers", []) + pod["containers"]:
            if container["command"][0] in PROGRAMS:
                yield name, container


def options_of(program):
    said = subprocess.run([PROGRAMS[program], "--print-options"], text=True, capture_output=True,
                          check=True).stdout
    return {row.split("\t")[0] for row in said.splitlines()}


@common.unittest.skipUnless(yaml, "python3-yaml: not installed")
class KubernetesTest(common.TestCase):
    def test_known_keys(self):
        for name, pod in pods():
            with self.subTest(name):
                self.assertLessEqual(set(pod), KEYS["pod"])
        for name, container in ours():
            with self.subTest(f"{name}: {container['name']}"):
                self.assertLessEqual(set(container), KEYS["container"])
                self.assertLessEqual(set(container["securityContext"]), KEYS["securityContext"])
                for mount in container["volumeMounts"]:
                    self.assertLessEqual(set(mount), KEYS["volumeMount"])

    def test_volumes(self):
        for name, pod in pods():
            volumes = {volume["name"] for volume in pod["volumes"]}
            for container in pod["containers"] + pod["initContainers"]:
                mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
                self.assertLessEqual(mounted, volumes, name)

    def test_images(self):
        self.assertEqual({container["image"] for _, container in ours()},
                         {f"registry.example.com/tproxy:{VERSION}"})

    def test_options(self):
        for name, container in ours():
            program, *words = container["command"]
            with self.subTest(f"{name}: {container['name']}"):
                given = {word[2:].partition("=")[0] for word in words}
                self.assertLessEqual(given, options_of(program))
                self.assertIn(f"--pin-dir={PINS}", words)

    def test_privileges(self):
        """Those of the units."""
        unit = text_of("loader/tproxy-load.service.in")
        granted = re.search(r"^CapabilityBoundingSet=(.+)$", unit, re.M)[1].split()
        relays = loaders = 0
        for name, container in ours():
            context = container["securityContext"]
            with self.subTest(f"{name}: {container['name']}"):
                self.assertIs(context["allowPrivilegeEscalation"], False)
                self.assertEqual(context["capabilities"]["drop"], ["ALL"])
                added = context["capabilities"].get("add", [])
                if container["command"][0] == "tproxy-load":
                    loaders += 1
                    self.assertEqual([f"CAP_{name}" for name in added], granted)
                    self.assertIn(f"--relay-group={self.group()}", container["command"])
                else:
                    relays += 1
                    self.assertEqual((added, context["runAsNonRoot"]), ([], True))
                    self.assertEqual(context["runAsGroup"], self.group())
        self.assertEqual((loaders, relays), (1, 2))

    def test_passwords(self):
        """Each relay can read the files of the secret, which belong to fsGroup."""
        for name, pod in pods():
            with self.subTest(name):
                self.assertEqual(pod["securityContext"]["fsGroup"], self.group())
        for name, container in ours():
            if container["command"][0] == "tproxy-relay":
                env, = container["env"]
                self.assertEqual(env["name"], "CREDENTIALS_DIRECTORY")
                self.assertIn(env["value"], [mount["mountPath"]
                                             for mount in container["volumeMounts"]], name)

    @staticmethod
    def group():
        """The group of the image's user."""
        return int(re.search(r"groupadd --gid (\d+) tproxy",
                             text_of("scripts/packaging/image/Containerfile"))[1])

    def test_configuration(self):
        """The programs accept what is in the ConfigMap."""
        data, = (document["data"] for _, document in documents() if document["kind"] == "ConfigMap")
        directory = self.temporary()
        for name, text in data.items():
            with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                file.write(text)
        with open(os.path.join(directory, "corp"), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o400)
            file.write("secret\n")
        for status, command in (
                # 1: the host has no BPF file system, say.
                ((0, 1), [PROGRAMS["tproxy-relay"], "--check", "--config",
                          os.path.join(directory, "tproxy.conf")]),
                ((0,), [PROGRAMS["tproxyctl"], "rules", "check",
                        os.path.join(directory, "tproxy.rules")])):
            result = subprocess.run(command, text=True, capture_output=True, check=False,
                                    env={**os.environ, "CREDENTIALS_DIRECTORY": directory})
            self.assertIn(result.returncode, status, result)


if __name__ == "__main__":
    common.main()

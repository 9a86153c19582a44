"""Checks the manifests of docs/kubernetes: against the API's models of the Kubernetes client library, and each part
against those that it names. Prints the container's arguments."""

import sys
from pathlib import Path

import yaml
from kubernetes import client

NAME = {"kind": str, "apiVersion": str}
# The operator's own kind, as far as it is used: the library has no model of it.
SERVICE_MONITOR = {
    **NAME,
    "metadata": {"name": str, "labels": dict},
    "spec": {"selector": {"matchLabels": dict}, "endpoints": [{"port": str, "path": str, "interval": str}]},
}


def check(condition, what):
    if not condition:
        sys.exit(f"{what}")


def plain(shape, value, place):
    """Whether a value has this shape and nothing else."""
    if isinstance(shape, dict):
        check(isinstance(value, dict) and set(value) == set(shape), f"{place}: {value}")
        for key, inner in shape.items():
            plain(inner, value[key], f"{place}.{key}")
    elif isinstance(shape, list):
        check(isinstance(value, list) and value, f"{place}: {value}")
        for item in value:
            plain(shape[0], item, f"{place}[]")
    else:
        check(isinstance(value, shape), f"{place}: {value}")


def model(kind, value, place, whole=True):
    """Whether a value is of a kind that the API has: no unknown field, no field of another type, none missing."""
    if kind.startswith("list["):
        check(isinstance(value, list), f"{place}: no list")
        for item in value:
            model(kind[5:-1], item, f"{place}[]", whole)
    elif kind.startswith("dict("):
        check(isinstance(value, dict), f"{place}: no mapping")
        inner = kind[5:-1].split(", ")[1]
        for key, item in value.items():
            model(inner, item, f"{place}.{key}", whole)
    elif kind == "object":
        check(isinstance(value, (str, int)), f"{place}: {value}")
    elif kind in ("str", "int", "bool"):
        check(type(value).__name__ == kind, f"{place}: {value!r} is no {kind}")
    else:
        cls = getattr(client, kind)
        fields = {name: field for field, name in cls.attribute_map.items()}
        check(isinstance(value, dict), f"{place}: no mapping")
        for name, item in value.items():
            check(name in fields, f"{place}: {kind} has no field {name}")
            if item is None and not whole:
                continue
            model(cls.openapi_types[fields[name]], item, f"{place}.{name}", whole)
        if whole:
            try:
                cls(**{fields[name]: item for name, item in value.items()})
            except ValueError as error:
                sys.exit(f"{place}: {error}")


def documents(name, whole=True):
    found = {}
    for document in yaml.safe_load_all((folder / name).read_text()):
        kind = document["kind"]
        if kind == "ServiceMonitor":
            check(document["apiVersion"] == "monitoring.coreos.com/v1", "another ServiceMonitor")
            plain(SERVICE_MONITOR, document, kind)
        else:
            group = {"Deployment": "apps/v1", "Service": "v1", "PodDisruptionBudget": "policy/v1"}[kind]
            check(document["apiVersion"] == group, f"{kind}: {document['apiVersion']}")
            model(f"V1{kind}", document, kind, whole)
        found[kind] = document
    return found


def within(labels, others):
    return labels and labels.items() <= others.items()


def pod(deployment, full=True):
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        (action,) = [action for action in ("tcpSocket", "httpGet") if container[probe].get(action)]
        check(container[probe][action]["port"] in ports, f"{probe}: no such port")
    return spec, container, ports


folder = Path(sys.argv[1])
main = documents("gitd.yaml")
spec, container, ports = pod(main["Deployment"])
labels = main["Deployment"]["spec"]["template"]["metadata"]["labels"]
for selector in (
    main["Deployment"]["spec"]["selector"]["matchLabels"],
    main["Service"]["spec"]["selector"],
    main["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    *[each["labelSelector"]["matchLabels"] for each in spec["topologySpreadConstraints"]],
):
    check(within(selector, labels), f"{selector} selects no pod")
check({port["targetPort"] for port in main["Service"]["spec"]["ports"]} <= ports, "Service: no such port")
volumes = {volume["name"] for volume in spec["volumes"]}
check({mount["name"] for mount in container["volumeMounts"]} == volumes, "no such volume")
options = dict(argument.split("=", 1) for argument in container["args"] if "=" in argument)
wait = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
least = wait + int(options["--shutdown-timeout"]) + 5
check(spec["terminationGracePeriodSeconds"] > least, f"killed before {least} s are over")

status = documents("status.yaml", whole=False)
_, changed, changed_ports = pod(status["Deployment"])
check(status["Deployment"]["metadata"]["name"] == main["Deployment"]["metadata"]["name"], "another Deployment")
check(changed["args"][: len(container["args"])] == container["args"], "status.yaml: other arguments")
check(changed["name"] == container["name"] and ports < changed_ports, "status.yaml: another container")

monitor = documents("monitor.yaml")
service = monitor["Service"]
check(within(service["spec"]["selector"], labels), "the monitor's Service selects no pod")
check({port["targetPort"] for port in service["spec"]["ports"]} <= changed_ports, "monitor: no such port")
selector = monitor["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
check(within(selector, service["metadata"]["labels"]), "the monitor selects no Service")
check(not within(selector, main["Service"]["metadata"]["labels"]), "the monitor selects the clients' Service")
names = {port["name"] for port in service["spec"]["ports"]}
check({end["port"] for end in monitor["ServiceMonitor"]["spec"]["endpoints"]} <= names, "monitor: no such port")

kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
for name in kustomization["resources"] + [patch["path"] for patch in kustomization.get("patches", [])]:
    check((folder / name).exists(), f"there is no {name}")
print("\n".join(container["args"]))

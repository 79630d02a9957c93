//! Reads a manifest, and finds what in it does not agree: with itself, or with the library.

use std::time::Duration;

use lifecycle::{Budget, Lifecycle, StartError};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::Value;

/// One manifest: all its documents.
pub(super) struct Manifest {
    documents: Vec<Value>,
}

/// What it says of the one pod that it has.
pub(super) struct Pod<'a> {
    spec: &'a Value,
    container: &'a Value,
    labels: &'a Value,
}

impl Manifest {
    pub(super) fn parse(text: &str) -> Self {
        let documents = Yaml::load_from_str(text).expect("YAML");
        Self { documents: documents.iter().map(json).collect() }
    }

    pub(super) fn kind(&self, kind: &str) -> Option<&Value> {
        self.documents.iter().find(|document| document["kind"] == kind)
    }

    pub(super) fn pod(&self) -> Pod<'_> {
        let owner = self.kind("Deployment").or_else(|| self.kind("Job")).expect("who has pods");
        let template = &owner["spec"]["template"];
        let (spec, labels) = (&template["spec"], &template["metadata"]["labels"]);
        Pod { spec, container: &spec["containers"][0], labels }
    }

    /// What is wrong with it, in words; nothing if it is as it should be.
    pub(super) async fn flaws(&self) -> Vec<String> {
        let pod = self.pod();
        let mut flaws = pod.flaws().await;
        let mut must = |holds: bool, flaw: &str| {
            if !holds {
                flaws.push(flaw.to_owned());
            }
        };
        let selected = |by: &Value| {
            by.as_object().is_some_and(|by| by.iter().all(|(key, value)| &pod.labels[key] == value))
        };
        if let Some(service) = self.kind("Service") {
            must(selected(&service["spec"]["selector"]), "the Service selects other pods");
            let target = service["spec"]["ports"][0]["targetPort"].as_str().unwrap_or_default();
            must(pod.port(target).is_some(), "the Service's port is none of the pod's");
            must(pod.lame_duck_covers_the_balancers().await, "the lame duck is too short");
        }
        if let Some(deployment) = self.kind("Deployment") {
            let spec = &deployment["spec"];
            must(selected(&spec["selector"]["matchLabels"]), "the Deployment selects other pods");
            must(spec["replicas"].as_u64() > Some(1), "a single pod: each restart is an outage");
            let budget = self.kind("PodDisruptionBudget").map(|budget| &budget["spec"]);
            let budget = budget.unwrap_or(&Value::Null);
            must(selected(&budget["selector"]["matchLabels"]), "no disruption budget selects it");
            let may_miss = budget["maxUnavailable"].as_u64().unwrap_or_default();
            let some_stay = (1..spec["replicas"].as_u64().unwrap_or_default()).contains(&may_miss);
            must(some_stay, "the disruption budget allows none or all to go");
            if self.kind("Service").is_some() {
                let ready = spec["minReadySeconds"].as_u64().map(Duration::from_secs);
                must(ready > Some(PROPAGATION), "an old pod goes before its successor is known");
            }
        }
        flaws
    }
}

impl<'a> Pod<'a> {
    /// The process of `orders` that it runs.
    pub(super) fn argument(&self) -> &'a str {
        self.container["args"][0].as_str().unwrap_or_default()
    }

    /// The variables that have their value in the manifest.
    pub(super) fn variables(&self) -> Vec<(&'a str, &'a str)> {
        let all = self.container["env"].as_array().expect("an environment").iter();
        all.filter_map(|one| Some((one["name"].as_str()?, one["value"].as_str()?))).collect()
    }

    pub(super) fn grace(&self) -> Duration {
        let seconds = self.spec["terminationGracePeriodSeconds"].as_u64();
        Duration::from_secs(seconds.expect("a grace period"))
    }

    /// The path of a probe such as `livenessProbe`.
    pub(super) fn probe(&self, name: &str) -> &'a str {
        self.container[name]["httpGet"]["path"].as_str().expect(name)
    }

    /// How the library splits what the manifest gives.
    pub(super) async fn budget(&self) -> Result<Budget, StartError> {
        let mut builder = Lifecycle::builder().probe_addr(None).grace_period(self.grace());
        builder = builder.pre_stop_delay(self.variable("LIFECYCLE_PRE_STOP").unwrap_or_default());
        if let Some(period) = self.variable("LIFECYCLE_LAME_DUCK") {
            builder = builder.lame_duck_period(period);
        }
        let life = builder.build_local()?;
        // Without a listener there is no lame duck.
        if self.port("http").is_some() {
            life.handle().listening();
        }
        life.handle().shutdown("to see its budget");
        Ok(life.run().await.expect("nothing runs that could fail").budget())
    }

    fn variable(&self, name: &str) -> Option<Duration> {
        let (_, value) = self.variables().into_iter().find(|(key, _)| *key == name)?;
        Some(humantime::parse_duration(value).expect(name))
    }

    fn port(&self, name: &str) -> Option<u64> {
        let ports = self.container["ports"].as_array()?;
        ports.iter().find(|port| port["name"] == name)?["containerPort"].as_u64()
    }

    async fn flaws(&self) -> Vec<String> {
        let mut flaws = Vec::new();
        let mut must = |holds: bool, flaw: &str| {
            if !holds {
                flaws.push(flaw.to_owned());
            }
        };
        let told = self.variable("LIFECYCLE_GRACE_PERIOD");
        must(told == Some(self.grace()), "the process is told another grace than the pod has");
        let hook = &self.container["lifecycle"]["preStop"];
        let slept = hook["sleep"]["seconds"].as_u64().map(Duration::from_secs);
        must(hook.is_null() || slept.is_some(), "nobody knows how long the preStop hook takes");
        let pre_stop = self.variable("LIFECYCLE_PRE_STOP");
        must(pre_stop == slept, "the process is told another preStop time than the pod has");
        if let Err(error) = self.budget().await {
            must(false, &format!("the library refuses it: {error}"));
        }
        must(self.container["command"].is_null(), "a command replaces the image's ENTRYPOINT");
        must(self.spec["securityContext"]["runAsNonRoot"] == true, "it may run as root");
        let queue = self.container["env"]
            .as_array()
            .and_then(|env| env.iter().find(|one| one["name"] == "QUEUE_URL"));
        let secret = queue.map_or(&Value::Null, |one| &one["valueFrom"]["secretKeyRef"]["name"]);
        must(secret == "orders", "the queue's URL does not come from the Secret");
        if self.argument() != "migrate" {
            for (probe, path) in PROBES {
                let asks = &self.container[probe]["httpGet"];
                must(asks["path"] == path, &format!("the {probe} does not ask {path}"));
                must(asks["port"] == "probes", &format!("the {probe} asks another port"));
            }
            must(self.port("probes") == Some(9090), "the probes listen on port 9090");
            let own = &self.container["livenessProbe"]["terminationGracePeriodSeconds"];
            must(own.is_null(), "a restart by the kubelet has another grace");
        }
        flaws
    }

    /// Until the balancers have heard, by either way, the listener is open.
    async fn lame_duck_covers_the_balancers(&self) -> bool {
        let probe = &self.container["readinessProbe"];
        let number = |field: &str, default| probe[field].as_u64().unwrap_or(default);
        let fails = number("periodSeconds", 10) * number("failureThreshold", 3);
        let heard = Duration::from_secs(fails + number("timeoutSeconds", 1)) + PROPAGATION;
        self.budget().await.is_ok_and(|budget| budget.lame_duck_ends >= heard)
    }
}

/// Panics on what has no place in a manifest: tags, aliases, keys that are no strings.
fn json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(yes)) => (*yes).into(),
        Yaml::Value(Scalar::Integer(number)) => (*number).into(),
        Yaml::Value(Scalar::String(text)) => text.as_ref().into(),
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(map) => {
            let entry =
                |(key, value): (&Yaml<'_>, _)| (key.as_str().unwrap().to_owned(), json(value));
            Value::Object(map.iter().map(entry).collect())
        }
        other => panic!("no part of a manifest: {other:?}"),
    }
}

const PROBES: [(&str, &str); 3] =
    [("startupProbe", "/startupz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")];

/// From an endpoint's change to the last balancer that knows it: what `web.yaml` reckons with.
const PROPAGATION: Duration = Duration::from_secs(5);

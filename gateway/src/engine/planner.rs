//! Makes one plan after the other and retires those before.

use std::{collections::HashMap, sync::Arc};

use sluice_certs::Choice;
use sluice_config::{Problem, Snapshot, model, names::ListenerName};
use tokio::sync::Notify;

use super::{development::Development, orders::Orders};
use crate::{
    authn::{users::Lists, verifier::Verifier},
    drain::Tasks,
    load::{CertificateFiles, Certificates, Loaded},
    plan::{ClientPolicies, Parts, Plan, Tls},
    telemetry::{
        access_log::{self, Switch, Writer},
        metrics::Shard,
        trace::{Environment, Tracer},
    },
    upstream::Registry,
};

/// Makes plans. What must outlive them is here.
#[derive(Debug)]
pub(super) struct Planner {
    pub(super) registry: Registry,
    /// The root of all client connections.
    pub(super) connections: Tasks,
    pub(super) workers: usize,
    pub(super) counters: Shard,
    /// Takes request lines whatever the snapshots say.
    pub(super) fixed_log: Option<Writer>,
    /// Turns access logs on and off.
    pub(super) switch: Switch,
    /// The access log that runs, and its settings.
    pub(super) log: Option<(Arc<model::AccessLog>, Writer)>,
    /// What the environment says about traces.
    pub(super) environment: Environment,
    /// The tracer that runs, and its settings.
    pub(super) tracing: Option<(Arc<model::Tracing>, Tracer)>,
    /// Where its spans are sent from.
    pub(super) tasks: Tasks,
    /// The plan that runs.
    pub(super) current: Option<Arc<Plan>>,
    /// The certificates, and the files of those that have any.
    pub(super) certificates: CertificateFiles,
    /// Who may come in with a password.
    pub(super) users: Lists,
    /// Verifies passwords.
    pub(super) verifier: Verifier,
    /// Orders those that have none.
    pub(super) orders: Orders,
    /// Renews those for development.
    pub(super) development: Development,
    /// Told when there are others.
    pub(super) renewed: Arc<Notify>,
}

impl Planner {
    /// A plan for `snapshot`, which does not run yet.
    pub(super) fn compile(
        &self,
        snapshot: &Snapshot,
        loaded: Loaded,
    ) -> Result<(Arc<Plan>, Certificates), Vec<Problem>> {
        self.orders.check(&loaded.certificates)?;
        let access_log = self.access_log(&snapshot.access_log)?;
        let tracer = self.tracer(&snapshot.tracing)?;
        let parts = Parts {
            registry: &self.registry,
            tasks: &self.connections,
            bodies: loaded.bodies,
            tls_clients: loaded.tls_clients,
            users: loaded.users,
            verifier: self.verifier.clone(),
            access_log,
            tracer,
            tls: self.tls(snapshot, &loaded.certificates.clients)?,
            certificates: self.certificates.store.clone(),
            pending: Arc::clone(self.orders.keeper().pending()),
        };
        let plan = Plan::compile(self.current.as_deref(), snapshot, parts);
        Ok((Arc::new(plan), loaded.certificates))
    }

    /// How each listener ends TLS that does.
    fn tls(
        &self,
        snapshot: &Snapshot,
        clients: &ClientPolicies,
    ) -> Result<HashMap<ListenerName, Arc<Tls>>, Vec<Problem>> {
        let mut all = HashMap::new();
        for (name, listener) in &snapshot.listeners {
            let running = self.current.as_ref();
            let previous = running.and_then(|plan| plan.listeners.get(name)?.tls.as_ref());
            match Tls::compile(listener, snapshot, clients, self.workers, previous) {
                Ok(None) => {}
                Ok(Some(tls)) => drop(all.insert(name.clone(), tls)),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    return Err(vec![Problem {
                        code: "tls",
                        at: format!("listeners.{name}.tls"),
                        what: format!("{error}: {}", cause.unwrap_or_default()),
                        hint: None,
                        witness: None,
                        place: None,
                    }]);
                }
            }
        }
        Ok(all)
    }

    /// Lets handshakes use the certificates that were read for `plan`. Those that cannot be used are
    /// told; the ones in their places go on.
    pub(super) fn present(
        &mut self,
        snapshot: &Snapshot,
        plan: &Plan,
        mut certificates: Certificates,
    ) {
        for (certificate, problem) in self.certificates.keep(&mut certificates) {
            tracing::error!(
                certificate,
                problem,
                "the certificate is refused, the one before goes on being served"
            );
        }
        let automatic = &certificates.automatic;
        self.certificates.sweep(snapshot, automatic);
        self.development.set(automatic);
        for (upstream, tls) in &plan.tls_clients {
            let known = self.certificates.upstreams.get(upstream);
            if let Some(problem) = &tls.refused
                && known.and_then(|known| known.refused.as_ref()) != Some(problem)
            {
                tracing::error!(
                    %upstream,
                    problem = &**problem,
                    "the files for TLS with an upstream are refused, what they said before goes on being used"
                );
            }
        }
        self.certificates.upstreams.clone_from(&plan.tls_clients);
        self.admit(plan);
        for listener in plan.listeners.values() {
            let model = &listener.model;
            let choice = self.certificates.choice(model, snapshot, automatic);
            let Some(tls) = &listener.tls else {
                continue;
            };
            // What passes TLS through has none; it may have had some.
            tls.server
                .present(choice.map_or_else(Choice::default, |choice| {
                    self.orders.answer_for(model, snapshot, choice)
                }));
        }
        self.orders
            .set(&certificates, &self.certificates.store, &self.tasks);
    }

    /// From now on the users of `plan` come in with a password, and nobody else.
    fn admit(&mut self, plan: &Plan) {
        for (listener, list) in &plan.users {
            let known = self.users.get(listener);
            if let Some(problem) = &list.refused
                && known.and_then(|known| known.refused.as_ref()) != Some(problem)
            {
                tracing::error!(
                    %listener,
                    problem = &**problem,
                    "the file of users is refused, those that it had before go on being let in"
                );
            }
            let listener = plan.listeners.get(listener);
            if let Some(basic) = listener.and_then(|listener| listener.basic.as_ref()) {
                basic.admit(Arc::clone(&list.users));
            }
        }
        self.users.clone_from(&plan.users);
    }

    /// Waits until certificates that were ordered before are served, as long as a start may take.
    pub(super) async fn settle(&self) {
        self.orders.settle().await;
        self.renewed.notify_one();
    }

    /// Says that every worker runs `plan`.
    pub(super) fn commit(&mut self, snapshot: &Snapshot, plan: Arc<Plan>) {
        if self.fixed_log.is_none() {
            self.log = Some((Arc::clone(&snapshot.access_log), plan.access_log.clone()));
        }
        self.tracing = Some((Arc::clone(&snapshot.tracing), plan.tracer.clone()));
        let previous = self.current.replace(plan);
        if let (Some(previous), Some(current)) = (previous, &self.current) {
            previous.retire(current);
        }
        self.registry.sweep();
    }

    /// The tracer that runs, unless its settings changed.
    fn tracer(&self, model: &Arc<model::Tracing>) -> Result<Tracer, Vec<Problem>> {
        if let Some((known, tracer)) = &self.tracing
            && known == model
        {
            return Ok(tracer.clone());
        }
        let made = Tracer::new(model, &self.environment, self.counters.clone());
        let (tracer, task) = made.map_err(|error| {
            vec![Problem {
                code: "tracing",
                at: "tracing.otlp".to_owned(),
                what: error.to_string(),
                hint: None,
                witness: None,
                place: None,
            }]
        })?;
        if let Some(task) = task {
            self.tasks.spawn(task);
        }
        Ok(tracer)
    }

    /// The writer that runs, unless its settings changed.
    fn access_log(&self, model: &Arc<model::AccessLog>) -> Result<Writer, Vec<Problem>> {
        if let Some(writer) = &self.fixed_log {
            return Ok(writer.clone());
        }
        if let Some((known, writer)) = &self.log
            && known == model
        {
            return Ok(writer.clone());
        }
        access_log::open(model)
            .and_then(|sink| Writer::start(sink, model, self.workers, self.counters.clone()))
            .map(|writer| writer.switched_by(self.switch.clone()))
            .map_err(|error| {
                vec![Problem {
                    code: "file",
                    at: "access_log.output".to_owned(),
                    what: format!("the access log cannot be opened: {error}"),
                    hint: None,
                    witness: None,
                    place: None,
                }]
            })
    }
}

//! What the rounds have shown, and how one contender is to another.

use super::account::Usage;
use super::contender::Contender;
use super::exercise::Exercise;
use super::load::Load;
use super::support::median;

/// A contender's rounds of an exercise with so many connections.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) contender: Contender,
    pub(crate) exercise: Exercise,
    pub(crate) connections: usize,
    /// Why it is not run at all.
    inability: Option<String>,
    rounds: Vec<(Load, Usage)>,
}

impl Measured {
    pub(crate) fn new(contender: Contender, exercise: Exercise, connections: usize) -> Self {
        Self { contender, exercise, connections, inability: None, rounds: Vec::new() }
    }

    /// What is not to be run, and why.
    pub(crate) fn unable(contender: Contender, exercise: Exercise, connections: usize, why: &str) -> Self {
        Self { inability: Some(why.to_owned()), ..Self::new(contender, exercise, connections) }
    }

    pub(crate) fn inability(&self) -> Option<&str> {
        self.inability.as_deref()
    }

    pub(crate) fn add(&mut self, load: Load, usage: Usage) {
        self.rounds.push((load, usage));
    }

    /// The median over the rounds. NaN where there was no answer.
    fn of(&self, value: fn(&Load) -> f64) -> f64 {
        if self.requests() == 0 {
            return f64::NAN;
        }
        median(self.rounds.iter().map(|(load, _)| value(load)).collect())
    }

    /// In milliseconds.
    pub(crate) fn median(&self) -> f64 {
        self.of(|load| load.median)
    }

    /// In milliseconds.
    pub(crate) fn p99(&self) -> f64 {
        self.of(|load| load.p99)
    }

    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.of(|load| load.rate)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.rounds.iter().map(|(load, _)| load.requests).sum()
    }

    pub(crate) fn errors(&self) -> u64 {
        self.rounds.iter().map(|(load, _)| load.errors).sum()
    }

    /// Processor time of a request, in milliseconds, all rounds together.
    fn processor_time(&self, value: fn(&Usage) -> f64) -> f64 {
        self.rounds.iter().map(|(_, usage)| value(usage)).sum::<f64>() * 1e3 / self.requests() as f64
    }

    /// Of the server and its programs, where that can be known.
    pub(crate) fn together(&self) -> Option<f64> {
        self.contender.accounts_for_programs().then(|| self.processor_time(|usage| usage.together))
    }

    /// Of dcgi's own process.
    pub(crate) fn own(&self) -> Option<f64> {
        self.contender.is_dcgi().then(|| self.processor_time(|usage| usage.own))
    }

    /// Of all that happened on the machine.
    pub(crate) fn machine(&self) -> f64 {
        self.processor_time(|usage| usage.machine)
    }

    /// In MiB; where nothing of the contender stays, there is none.
    pub(crate) fn peak(&self) -> Option<f64> {
        self.most(|usage| usage.peak)
    }

    pub(crate) fn peak_together(&self) -> Option<f64> {
        self.most(|usage| usage.peak_together)
    }

    fn most(&self, value: fn(&Usage) -> f64) -> Option<f64> {
        let most = self.rounds.iter().map(|(_, usage)| value(usage)).fold(0.0, f64::max);
        (most > 0.0 && self.contender != Contender::Crun).then_some(most)
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Results(pub(crate) Vec<Measured>);

impl Results {
    /// What was asked for, whether it was able or not.
    pub(crate) fn find(
        &self,
        contender: Contender,
        exercise: Exercise,
        connections: usize,
    ) -> Option<&Measured> {
        self.0
            .iter()
            .find(|one| (one.contender, one.exercise, one.connections) == (contender, exercise, connections))
    }

    /// A figure, where there is one.
    pub(crate) fn value(
        &self,
        value: fn(&Measured) -> f64,
        contender: Contender,
        exercise: Exercise,
        connections: usize,
    ) -> Option<f64> {
        self.find(contender, exercise, connections).map(value).filter(|value| value.is_finite())
    }

    /// How one contender is to another, where both were measured.
    pub(crate) fn ratio(
        &self,
        value: fn(&Measured) -> f64,
        of: Contender,
        to: Contender,
        exercise: Exercise,
        connections: usize,
    ) -> Option<f64> {
        let of = self.value(value, of, exercise, connections)?;
        Some(of / self.value(value, to, exercise, connections)?)
    }

    /// The best requests/s of a contender's, whatever the number of connections.
    pub(crate) fn best_rate(&self, contender: Contender, exercise: Exercise) -> Option<f64> {
        let ours = self.0.iter().filter(|one| one.contender == contender && one.exercise == exercise);
        ours.map(Measured::rate).filter(|rate| rate.is_finite()).reduce(f64::max)
    }
}

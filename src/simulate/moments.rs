//! One round of moments: every device sums up its own samples once, and the sum of all sums is solved for a head.

use super::{Error, Progress, World};
use crate::moments::{About, Basis, Error as MomentsError, Moments, head};
use crate::train::artifact::preprocessing_to_wire;
use crate::train::solve::Around;
use crate::train::solve::moments::{Set, about, add, parameters};

/// Values of a bundle's parameters, and the bytes that all devices have sent for them.
type Solved = (Vec<Vec<f32>>, u64);

/// What the devices' moments give. `None` if it was stopped.
pub(super) fn solved(world: &mut World<'_>, parts: &[Vec<usize>], basis: &Basis) -> Result<Option<Solved>, Error> {
    let refused = |source: MomentsError| Error::Train(crate::train::Error::Moments(source));
    let names = world.labels.names();
    let preprocessing = preprocessing_to_wire(world.preprocessing);
    let about = About { preprocessing, ..about(world.bundle, basis, world.labels) };
    let nothing = Moments::new(about, names.len(), names).map_err(refused)?;
    let (mut sum, mut bytes) = (nothing.clone(), 0);
    for (device, samples) in parts.iter().enumerate() {
        let mut own = nothing.clone();
        let World { bundle, train, labels, options, stop, tell, .. } = &mut *world;
        let mut set = Set { bundle, features: train, labels, samples, options };
        if !add(&mut set, basis, &mut own, &mut Around { until_s: None, stop, clock: &|| 0.0, tell: &mut |_| {} })? {
            return Ok(None);
        }
        // As it would be sent and taken.
        let sent = own.encode().map_err(refused)?;
        bytes += sent.len() as u64;
        sum.merge(&Moments::parse(&sent).map_err(refused)?).map_err(refused)?;
        tell(Progress { round: 1, device: device + 1 });
    }
    let order: Option<Vec<usize>> =
        names.iter().map(|name| sum.labels().iter().position(|label| label == name)).collect();
    let head = head(&sum, basis, None).map_err(refused)?.in_order(&order.ok_or(refused(MomentsError::Target))?);
    Ok(Some((parameters(world.bundle, &head)?, bytes)))
}

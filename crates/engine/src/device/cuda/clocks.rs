//! Reads a GPU's clocks, temperature and power through NVML. They show whether the card ran at full speed during a measurement.

use super::driver::Driver;
use cudarc::driver::sys;
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use serde::Serialize;
use std::ffi::{CStr, c_char};

/// One reading; quantities that the card does not report are absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Clocks {
    /// The clock of the multiprocessors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sm_mhz: Option<u32>,
    /// The clock of the memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mhz: Option<u32>,
    /// The temperature of the chip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_celsius: Option<u32>,
    /// The power that the card draws.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_watts: Option<f64>,
    /// Why the clocks are not higher, in NVML's words; empty if the card is idle or at full speed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle_reasons: Option<Vec<&'static str>>,
}

/// Reads the clocks of one GPU.
pub struct Gauge {
    nvml: Nvml,
    /// Identifies the card in both libraries. NVML numbers all cards, the driver only those of CUDA_VISIBLE_DEVICES in their
    /// order.
    bus_id: String,
}

impl Gauge {
    /// `None` if NVML is missing or does not know the card.
    pub fn of(driver: &Driver) -> Option<Gauge> {
        let gauge = Gauge { nvml: Nvml::init().ok()?, bus_id: bus_id(driver.device)? };
        gauge.read().map(|_| gauge)
    }

    /// Reads the card's current state. This needs no context, so it also works while a step is running.
    pub fn read(&self) -> Option<Clocks> {
        let device = self.nvml.device_by_pci_bus_id(self.bus_id.as_str()).ok()?;
        Some(Clocks {
            sm_mhz: device.clock_info(Clock::SM).ok(),
            memory_mhz: device.clock_info(Clock::Memory).ok(),
            temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok(),
            power_watts: device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1e3),
            throttle_reasons: device.current_throttle_reasons().ok().map(words),
        })
    }
}

/// The device's address on the PCI bus, such as `0000:19:00.0`.
fn bus_id(device: sys::CUdevice) -> Option<String> {
    let mut text: [c_char; 32] = [0; 32];
    // SAFETY: the driver writes at most the number of characters passed to it, including the final zero.
    let said = unsafe { sys::cuDeviceGetPCIBusId(text.as_mut_ptr(), text.len() as i32, device) };
    said.result().ok()?;
    let bytes = text.map(|c| c as u8);
    CStr::from_bytes_until_nul(&bytes).ok()?.to_str().ok().map(str::to_owned)
}

fn words(reasons: ThrottleReasons) -> Vec<&'static str> {
    [
        (ThrottleReasons::APPLICATIONS_CLOCKS_SETTING, "applications clocks setting"),
        (ThrottleReasons::SW_POWER_CAP, "software power cap"),
        (ThrottleReasons::HW_SLOWDOWN, "hardware slowdown"),
        (ThrottleReasons::SYNC_BOOST, "sync boost"),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, "software thermal slowdown"),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, "hardware thermal slowdown"),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "hardware power brake"),
        (ThrottleReasons::DISPLAY_CLOCK_SETTING, "display clock setting"),
    ]
    .into_iter()
    .filter(|(reason, _)| reasons.contains(*reason))
    .map(|(_, words)| words)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_but_idleness_has_words() {
        assert!(words(ThrottleReasons::NONE).is_empty() && words(ThrottleReasons::GPU_IDLE).is_empty());
        let two = ThrottleReasons::SW_POWER_CAP | ThrottleReasons::HW_SLOWDOWN | ThrottleReasons::GPU_IDLE;
        assert_eq!(words(two), ["software power cap", "hardware slowdown"]);
        // One flag has an older name too; NONE has no bit.
        let idle = ThrottleReasons::GPU_IDLE;
        assert_eq!(words(ThrottleReasons::all()).len() as u32, (ThrottleReasons::all() - idle).bits().count_ones());
    }
}

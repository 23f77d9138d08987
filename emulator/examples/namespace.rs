//! A namespace until Ctrl-C: `cargo run -p weir-emulator --example namespace -- 127.0.0.1:5672 flights:4 out:2`.
//! (`weir emulator` is the real command; this one needs nothing but this crate.)

use weir_emulator::{Emulator, EmulatorConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:5672".into());
    let hubs = arguments.map(|hub| hub.parse()).collect::<Result<_, _>>()?;
    let control = Some("127.0.0.1:0".into());
    let data = std::env::var_os("WEIR_DATA").map(Into::into);
    let emulator = Emulator::start(EmulatorConfig { listen, hubs, control, data, ..Default::default() }).await?;
    println!("{}", emulator.connection_string(None));
    if let Some(control) = emulator.control_address() {
        println!("http://{control}");
    }
    tokio::signal::ctrl_c().await?;
    emulator.shutdown().await;
    Ok(())
}

"""How is it trained? One loop, its schedule, losses and weight selection."""

"""How do annotation tools ask? One module for the protocol of each tool."""

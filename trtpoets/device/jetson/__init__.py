"""JetPack releases, Jetson modules and their power modes."""

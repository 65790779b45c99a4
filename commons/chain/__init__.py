"""The marketplace contract as the services see it: the gateway, the settlement, deployment, the compiler."""

import '../shell/later-styles.js';
import { Badge, Button, Group, Paper, Stack, Text, Title } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { projectsKey } from '../api/queries.js';
import type { Environment } from '../api/types.js';
import { useWrite } from '../features/use-write.js';
import { RelativeTime } from '../shell/relative-time.js';
import { FormDialog } from '../shell/dialog.js';
import { LockIcon } from '../shell/icons.js';
import { PageHead } from '../shell/page-title.js';
import { useScope, useRights } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';

/** The guards of the project's environments. Owners can add and remove them. */
export default function GuardsPage() {
  const { t } = useI18n();
  const { project } = useScope();
  return (
    <Stack gap="md">
      <PageHead title={t.shell.guards} subtitle={t.guards.hint} />
      {project.environments.map((environment) => (
        <EnvironmentCard key={environment.id} environment={environment} />
      ))}
    </Stack>
  );
}

function EnvironmentCard({ environment }: { readonly environment: Environment }) {
  const { t } = useI18n();
  const { guard } = useRights();
  const { busy, send } = useWrite();
  const queries = useQueryClient();
  const [removing, setRemoving] = useState(false);
  const { id, key, name, guarded, guarded_by: by, guarded_at: at } = environment;
  const set = async (guard: boolean): Promise<void> => {
    await send('PATCH', `/api/environments/${id}`, { guarded: guard });
    setRemoving(false);
    await queries.invalidateQueries({ queryKey: projectsKey });
  };
  return (
    <Paper withBorder p="lg" component="article" aria-label={visible(name)}>
      <Group justify="space-between">
        <div>
          <Group gap="xs">
            <Title order={2}>{visible(name)}</Title>
            <Badge variant="default" tt="none" fw={500} leftSection={guarded && <LockIcon size={13} />}>
              {visible(key)}
            </Badge>
          </Group>
          <Text size="sm" c="dimmed" component="div">
            {guarded ? t.guards.guardedBy(by) : t.guards.notGuarded}
            {at !== null && (
              <>
                {' '}
                · <RelativeTime at={at} />
              </>
            )}
          </Text>
        </div>
        {guard && (
          <Button
            variant="default"
            loading={busy && !removing}
            onClick={() => {
              if (guarded) setRemoving(true);
              else void set(true);
            }}
          >
            {guarded ? t.guards.remove(name) : t.guards.add(name)}
          </Button>
        )}
      </Group>
      {removing && guarded && (
        <FormDialog
          title={t.guards.remove(name)}
          submitLabel={t.guards.confirm}
          submitColor="red.9"
          focus="submit"
          busy={busy}
          onClose={() => setRemoving(false)}
          onSubmit={() => void set(false)}
        >
          <Text size="sm">{t.guards.removeHint}</Text>
        </FormDialog>
      )}
    </Paper>
  );
}

import { Button, Group, Popover, Stack, Text } from '@mantine/core';
import { useEffect, useRef, useState } from 'react';
import { useI18n } from '../i18n/i18n.js';
import { useNotifications } from '../shell/notifications.js';
import { useScope } from '../shell/scope.js';
import { useApi } from '../sign-in/app-services.js';
import { ExportTooLargeError, saveExport } from './save-export.js';
import { type HistoryFilter, searchOf } from './timeline.js';

const formats = ['csv', 'json', 'ndjson'] as const;

/** Exports what the filter lets through. */
export function ExportMenu({ filter }: { readonly filter: HistoryFilter }) {
  const { t, format: numbers } = useI18n();
  const api = useApi();
  const { project, environment } = useScope();
  const { notify, notifyError } = useNotifications();
  const [isOpened, setOpened] = useState(false);
  /** Null while no export is under way. */
  const [megabytes, setMegabytes] = useState<number | null>(null);
  const abort = useRef<AbortController | null>(null);
  useEffect(() => () => abort.current?.abort(), []);
  const save = async (format: (typeof formats)[number]): Promise<void> => {
    setOpened(false);
    setMegabytes(0);
    const { signal } = (abort.current = new AbortController());
    const place = filter.projects === 'all' ? 'all projects' : `${project.name} ${environment.key}`;
    try {
      await saveExport(api, {
        path: `/api/audit/export?${searchOf(project.id, environment.key, filter)}&format=${format}`,
        name: `audit ${place}`.replaceAll(/[^\p{L}\p{N}]+/gu, '-') + `.${format}`,
        signal,
        onProgress: (bytes) => setMegabytes(Math.floor(bytes / 1e6)),
      });
      notify('success', t.activity.exported);
    } catch (error) {
      // The user has cancelled the export, or the dialog of the browser.
      const isCancelled = signal.aborted || (error as Error).name === 'AbortError';
      if (error instanceof ExportTooLargeError) notify('error', t.activity.exportTooLarge);
      else if (error instanceof TypeError) notify('error', t.activity.exportFailed);
      else if (!isCancelled) notifyError(error);
    } finally {
      setMegabytes(null);
    }
  };
  if (megabytes !== null) {
    return (
      <Button variant="default" onClick={() => abort.current?.abort()}>
        {t.activity.cancelExport(numbers.number(megabytes))}
      </Button>
    );
  }
  return (
    <Popover opened={isOpened} onChange={setOpened} position="bottom-end" trapFocus returnFocus shadow="md">
      <Popover.Target>
        <Button variant="default" aria-haspopup="dialog" onClick={() => setOpened(!isOpened)}>
          {t.activity.export}
        </Button>
      </Popover.Target>
      <Popover.Dropdown aria-label={t.activity.export} maw={300}>
        <Stack gap="xs">
          <Text size="sm">{t.activity.exportHint}</Text>
          <Group gap="xs">
            {formats.map((format) => (
              <Button key={format} size="xs" variant="default" onClick={() => void save(format)}>
                {format.toUpperCase()}
              </Button>
            ))}
          </Group>
        </Stack>
      </Popover.Dropdown>
    </Popover>
  );
}

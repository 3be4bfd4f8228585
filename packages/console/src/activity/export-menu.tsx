import { Button, Menu } from '@mantine/core';
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
  /** Null while no export is under way. */
  const [megabytes, setMegabytes] = useState<number | null>(null);
  const abort = useRef<AbortController | null>(null);
  useEffect(() => () => abort.current?.abort(), []);
  const save = async (format: (typeof formats)[number]): Promise<void> => {
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
    <Menu position="bottom-end" width={300}>
      <Menu.Target>
        <Button variant="default">{t.activity.export}</Button>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>{t.activity.exportHint}</Menu.Label>
        {formats.map((format) => (
          <Menu.Item key={format} onClick={() => void save(format)}>
            {format.toUpperCase()}
          </Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}
